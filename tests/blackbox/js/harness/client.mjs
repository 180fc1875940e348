// Clients of the official SDK in both encodings, with their events in a queue that tests take from in order.

import { Centrifuge as JsonCentrifuge } from 'centrifuge';
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf';
import WebSocket from 'ws';

import { token } from './gyre.mjs';

const CLIENT_EVENTS = ['connected', 'connecting', 'disconnected', 'error', 'subscribed', 'unsubscribed', 'publication'];
const SUBSCRIPTION_EVENTS = ['subscribed', 'subscribing', 'unsubscribed', 'publication', 'join', 'leave', 'error'];

/** What differs between the encodings for an application: payloads are bytes in Protobuf. */
export const ENCODINGS = [
  { name: 'JSON', Centrifuge: JsonCentrifuge, out: (value) => value, back: (value) => value },
  {
    name: 'Protobuf',
    Centrifuge: ProtobufCentrifuge,
    out: (value) => new TextEncoder().encode(JSON.stringify(value)),
    back: (bytes) => JSON.parse(new TextDecoder().decode(bytes)),
  },
];

/** The events of one emitter since it was made. */
class Seen {
  constructor(emitter, kinds) {
    this.events = [];
    this.waiting = [];
    for (const kind of kinds) {
      emitter.on(kind, (context) => {
        this.events.push([kind, context]);
        this.waiting.splice(0).forEach((look) => look());
      });
    }
  }

  /** The context of the next event of this kind; others before it are dropped. */
  async next(kind, withinMs = 8000) {
    const deadline = Date.now() + withinMs;
    for (;;) {
      while (this.events.length > 0) {
        const [got, context] = this.events.shift();
        if (got === kind) return context;
      }
      const left = deadline - Date.now();
      if (left <= 0) throw new Error(`no ${kind} within ${withinMs} ms`);
      await new Promise((look) => {
        const timer = setTimeout(look, left);
        this.waiting.push(() => (clearTimeout(timer), look()));
      });
    }
  }
}

/** A started client. It is disconnected when the test `t` is over. */
export function connect(t, node, { encoding = ENCODINGS[0], user = '42', ...options } = {}) {
  const client = new encoding.Centrifuge(node.url, {
    websocket: WebSocket,
    token: token(user, {}, { lifetimeS: null }),
    minReconnectDelay: 50,
    maxReconnectDelay: 300,
    ...options,
  });
  client.seen = new Seen(client, CLIENT_EVENTS);
  t.after(() => client.disconnect());
  client.connect();
  return client;
}

/** A subscription of that client, already asked for. */
export function subscribe(client, channel, options = {}) {
  const subscription = client.newSubscription(channel, { minResubscribeDelay: 50, maxResubscribeDelay: 300, ...options });
  subscription.seen = new Seen(subscription, SUBSCRIPTION_EVENTS);
  subscription.subscribe();
  return subscription;
}
