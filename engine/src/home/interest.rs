//! The interest mask of a channel: which cores have subscribers, and of which encoding.

use gyre_proto::Encoding;
use gyre_proto::ids::CoreId;

/// Cores with subscribers of a channel, one bit each, per encoding they need.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Interest {
    json: u128,
    protobuf: u128,
}

impl Interest {
    fn mask_mut(&mut self, encoding: Encoding) -> &mut u128 {
        match encoding {
            Encoding::Json => &mut self.json,
            Encoding::Protobuf => &mut self.protobuf,
        }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.json | self.protobuf == 0
    }

    /// Whether some core needs `encoding`.
    pub(crate) fn needs(self, encoding: Encoding) -> bool {
        match encoding {
            Encoding::Json => self.json != 0,
            Encoding::Protobuf => self.protobuf != 0,
        }
    }

    /// The cores, ascending.
    pub(crate) fn cores(self) -> impl Iterator<Item = CoreId> {
        let mut left = self.json | self.protobuf;
        std::iter::from_fn(move || {
            let core = left.trailing_zeros();
            (left != 0).then(|| {
                left &= left - 1;
                CoreId(core as u16)
            })
        })
    }
}

/// The masks as a channel keeps them. Most channels have all their subscribers on one core.
#[derive(Debug)]
pub(crate) enum Interested {
    /// One core for each encoding, or none.
    Cores {
        json: Option<CoreId>,
        protobuf: Option<CoreId>,
    },
    Masks(Box<Interest>),
}

impl Default for Interested {
    fn default() -> Self {
        Self::Cores { json: None, protobuf: None }
    }
}

impl Interested {
    pub(crate) fn masks(&self) -> Interest {
        let bit = |core: &Option<CoreId>| core.map_or(0, |core| 1 << core.0);
        match self {
            Self::Cores { json, protobuf } => Interest { json: bit(json), protobuf: bit(protobuf) },
            Self::Masks(masks) => **masks,
        }
    }

    pub(crate) fn add(&mut self, core: CoreId, encoding: Encoding) {
        if let Some(only) = self.only_mut(encoding)
            && only.is_none_or(|known| known == core)
        {
            *only = Some(core);
            return;
        }
        let mut masks = self.masks();
        *masks.mask_mut(encoding) |= 1 << core.0;
        *self = Self::Masks(Box::new(masks));
    }

    pub(crate) fn remove(&mut self, core: CoreId, encoding: Encoding) {
        match self {
            Self::Masks(masks) => {
                *masks.mask_mut(encoding) &= !(1 << core.0);
                if masks.is_empty() {
                    *self = Self::default();
                }
            }
            Self::Cores { .. } => {
                if let Some(only) = self.only_mut(encoding) {
                    only.take_if(|known| *known == core);
                }
            }
        }
    }

    fn only_mut(&mut self, encoding: Encoding) -> Option<&mut Option<CoreId>> {
        match (self, encoding) {
            (Self::Cores { json, .. }, Encoding::Json) => Some(json),
            (Self::Cores { protobuf, .. }, Encoding::Protobuf) => Some(protobuf),
            (Self::Masks(_), _) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A core that is missing in the mask loses every publication; one too many gets them for nothing.
    #[test]
    fn keeps_what_the_plain_masks_would() {
        let mut rng = fastrand::Rng::with_seed(3);
        for _ in 0..200 {
            let (mut kept, mut plain) = (Interested::default(), Interest::default());
            for _ in 0..30 {
                let core = CoreId(rng.u16(..4) * 42);
                let encoding = if rng.bool() { Encoding::Json } else { Encoding::Protobuf };
                if rng.bool() {
                    kept.add(core, encoding);
                    *plain.mask_mut(encoding) |= 1 << core.0;
                } else {
                    kept.remove(core, encoding);
                    *plain.mask_mut(encoding) &= !(1 << core.0);
                }
                assert_eq!((kept.masks().json, kept.masks().protobuf), (plain.json, plain.protobuf));
            }
        }
    }
}
