// The official JavaScript SDK, unmodified, in JSON and Protobuf, on every core count.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { eventually, fresh, onEveryCoreCount, token } from './harness/gyre.mjs';
import { connect, ENCODINGS, subscribe } from './harness/client.mjs';

const refusedWith = (code) => (error) => error.code === code;

for (const encoding of ENCODINGS) {
  onEveryCoreCount(encoding.name, (running) => {
    const { out, back } = encoding;

    // The hello world of every application. The SDK sends connect and subscribe in one frame.
    test('B01 B02 connect, subscribe, publish both ways', async (t) => {
      const node = await running();
      const channel = fresh('open');
      const ann = connect(t, node, { encoding });
      const bob = connect(t, node, { encoding, user: '7' });
      const there = subscribe(bob, channel);
      const { client, transport } = await ann.seen.next('connected');
      assert.equal(transport, 'websocket');
      await there.seen.next('subscribed');
      await ann.publish(channel, out({ n: 1 }));
      const first = await there.seen.next('publication');
      assert.deepEqual(back(first.data), { n: 1 });
      assert.deepEqual([first.info.user, first.info.client], ['42', client]);
      await node.publish(channel, { n: 2 }, { tags: { kind: 'x' } });
      const second = await there.seen.next('publication');
      assert.deepEqual([back(second.data), second.tags, second.info], [{ n: 2 }, { kind: 'x' }, undefined]);
    });

    // Bytes that are no text would be lost or broken on their way.
    const binaryTest = encoding.name === 'Protobuf' ? test : () => {};
    binaryTest('B02 H05 binary payloads', async (t) => {
      const node = await running();
      const channel = fresh('open');
      const here = subscribe(connect(t, node, { encoding }), channel);
      await here.seen.next('subscribed');
      const bytes = Uint8Array.from({ length: 256 }, (_, n) => n);
      await node.api('publish', { channel, b64data: Buffer.from(bytes).toString('base64') });
      assert.deepEqual(new Uint8Array((await here.seen.next('publication')).data), bytes);
      await here.publish(bytes);
      assert.deepEqual(new Uint8Array((await here.seen.next('publication')).data), bytes);
    });

    // Messages out of order or twice are bugs in every application.
    test('E15 order of many publications', async (t) => {
      const node = await running();
      const channel = fresh('recovery');
      const clients = Array.from({ length: 5 }, (_, n) => connect(t, node, { encoding, user: `${n}` }));
      const subscriptions = clients.map((client) => subscribe(client, channel));
      for (const subscription of subscriptions) await subscription.seen.next('subscribed');
      for (let n = 1; n <= 100; n++) await node.publish(channel, n);
      for (const subscription of subscriptions) {
        for (let n = 1; n <= 100; n++) {
          const { offset, data } = await subscription.seen.next('publication');
          assert.deepEqual([offset, back(data)], [n, n]);
        }
      }
    });

    test('F02 F03 history', async (t) => {
      const node = await running();
      const here = subscribe(connect(t, node, { encoding }), fresh('hist'));
      await here.seen.next('subscribed');
      for (let n = 1; n <= 5; n++) await here.publish(out(n));
      const all = [];
      let since = { offset: 0, epoch: '' };
      for (;;) {
        const page = await here.history({ limit: 2, since });
        assert.equal(page.offset, 5);
        if (page.publications.length === 0) break;
        all.push(...page.publications.map((publication) => back(publication.data)));
        since = { offset: page.publications.at(-1).offset, epoch: page.epoch };
      }
      assert.deepEqual(all, [1, 2, 3, 4, 5]);
      const newest = await here.history({ limit: 2, reverse: true });
      assert.deepEqual(newest.publications.map((publication) => publication.offset), [5, 4]);
      await assert.rejects(here.history({ limit: 1, since: { offset: 1, epoch: 'other' } }), refusedWith(112));
    });

    test('G01 G04 presence, join and leave', async (t) => {
      const node = await running();
      const channel = fresh('members');
      const ann = connect(t, node, { encoding });
      const bob = connect(t, node, { encoding, user: '7' });
      const here = subscribe(ann, channel);
      const { client: annId } = await ann.seen.next('connected');
      assert.equal((await here.seen.next('join')).info.client, annId);
      const there = subscribe(bob, channel);
      assert.equal((await here.seen.next('join')).info.user, '7');
      const members = Object.values((await here.presence()).clients);
      assert.deepEqual(members.map((member) => member.user).sort(), ['42', '7']);
      const stats = await here.presenceStats();
      assert.deepEqual([stats.numClients, stats.numUsers], [2, 2]);
      there.unsubscribe();
      assert.equal((await here.seen.next('leave')).info.user, '7');
      await eventually(async () => (await here.presenceStats()).numClients === 1);
    });

    // After a tunnel messages would be missing or doubled.
    test('C25 F07 reconnect with recovery', async (t) => {
      const node = await running();
      const [channel, user] = [fresh('recovery'), fresh()];
      const client = connect(t, node, { encoding, user });
      const here = subscribe(client, channel);
      const first = await here.seen.next('subscribed');
      assert.deepEqual([first.recoverable, first.wasRecovering], [true, false]);
      await node.publish(channel, 1);
      assert.equal((await here.seen.next('publication')).offset, 1);
      await client.seen.next('connected');
      await node.api('disconnect', { user, disconnect: { code: 4000, reason: 'come back' } });
      for (const n of [2, 3, 4]) await node.publish(channel, n);
      await client.seen.next('connected');
      const again = await here.seen.next('subscribed');
      assert.deepEqual([again.wasRecovering, again.recovered], [true, true]);
      for (const n of [2, 3, 4]) {
        const { offset, data } = await here.seen.next('publication');
        assert.deepEqual([offset, back(data)], [n, n]);
      }
    });

    test('F08 recovery that fails is told', async (t) => {
      const node = await running();
      const channel = fresh('smallrecovery');
      const here = subscribe(connect(t, node, { encoding }), channel);
      await here.seen.next('subscribed');
      await node.publish(channel, 1);
      await here.seen.next('publication');
      here.unsubscribe();
      await here.seen.next('unsubscribed');
      for (let n = 2; n <= 9; n++) await node.publish(channel, n);
      here.subscribe();
      const again = await here.seen.next('subscribed');
      assert.deepEqual([again.wasRecovering, again.recovered], [true, false]);
      await node.publish(channel, 10);
      assert.equal((await here.seen.next('publication')).offset, 10);
    });

    test('C24 server-side subscriptions', async (t) => {
      const node = await running();
      // Of the second one the reply says nothing but that it is there.
      for (const channel of [fresh('recovery'), fresh('open')]) {
        const client = connect(t, node, { encoding, token: token('42', { channels: [channel] }, { lifetimeS: null }) });
        assert.equal((await client.seen.next('subscribed')).channel, channel);
        await node.publish(channel, { n: 1 });
        const publication = await client.seen.next('publication');
        assert.deepEqual([publication.channel, back(publication.data)], [channel, { n: 1 }]);
      }
    });

    // Channels that the backend chooses while the client is connected would stay silent, and have holes afterwards.
    test('H07 H10 subscribed and refreshed by the backend', async (t) => {
      const node = await running();
      const [channel, user] = [fresh('recovery'), fresh()];
      const client = connect(t, node, { encoding, user });
      await client.seen.next('connected');
      const position = await node.publish(channel, 1);
      await node.publish(channel, 2);
      await node.api('refresh', { user, expire_at: Math.floor(Date.now() / 1000) + 100 });
      await node.api('subscribe', { user, channel, data: { n: 0 }, recover_since: position });
      await node.publish(channel, 3);
      const context = await client.seen.next('subscribed');
      assert.deepEqual([context.channel, context.recoverable, context.positioned], [channel, true, true]);
      assert.deepEqual(back(context.data), { n: 0 });
      for (const n of [2, 3]) {
        const publication = await client.seen.next('publication');
        assert.deepEqual([publication.channel, publication.offset, back(publication.data)], [channel, n, n]);
      }
      await node.api('unsubscribe', { user, channel });
      assert.equal((await client.seen.next('unsubscribed')).channel, channel);
    });

    test('H08 H09 unsubscribed and disconnected by the backend', async (t) => {
      const node = await running();
      const [channel, user] = [fresh('open'), fresh()];
      const client = connect(t, node, { encoding, user });
      const here = subscribe(client, channel);
      await here.seen.next('subscribed');
      await node.api('unsubscribe', { user, channel });
      const { code, reason } = await here.seen.next('unsubscribed');
      assert.deepEqual([code, reason], [2000, 'server unsubscribe']);
      await node.api('disconnect', { user });
      const over = await client.seen.next('disconnected');
      assert.deepEqual([over.code, over.reason], [3503, 'force disconnect']);
    });

    test('C08 C09 C17 refusals reach the application with their codes', async (t) => {
      const node = await running();
      const client = connect(t, node, { encoding });
      await client.ready();
      await assert.rejects(client.rpc('x', out({})), refusedWith(108));
      await assert.rejects(client.publish(fresh('closed'), out({})), refusedWith(103));
      await assert.rejects(client.history(fresh('open'), { limit: 1 }), refusedWith(108));
      await assert.rejects(client.presence('nope:x'), refusedWith(102));
      assert.equal((await subscribe(client, fresh('closed')).seen.next('unsubscribed')).code, 103);
      assert.equal((await subscribe(client, 'nope:x').seen.next('unsubscribed')).code, 102);
    });

    test('D01 C01 credentials that cannot work end the client', async (t) => {
      const node = await running();
      const wrong = connect(t, node, { encoding, token: token('42', {}, { secret: 'other' }) });
      assert.equal((await wrong.seen.next('disconnected')).code, 3500);
      const none = connect(t, node, { encoding, token: '' });
      assert.equal((await none.seen.next('disconnected')).code, 3501);
    });

    test('D05 an expired token is replaced', async (t) => {
      const node = await running();
      const expired = token('42', {}, { lifetimeS: -10 });
      const client = connect(t, node, { encoding, token: expired, getToken: async () => token() });
      assert.ok((await client.seen.next('connected')).client);
    });

    test('D11 private channels with the token callback', async (t) => {
      const node = await running();
      const channel = fresh('$closed');
      const getToken = async ({ channel }) => token('42', { channel });
      const here = subscribe(connect(t, node, { encoding }), channel, { getToken });
      await here.seen.next('subscribed');
      await node.publish(channel, 1);
      assert.equal(back((await here.seen.next('publication')).data), 1);
    });

    test('races of unsubscribe and subscribe', async (t) => {
      const node = await running();
      const channel = fresh('open');
      const here = subscribe(connect(t, node, { encoding }), channel);
      await here.seen.next('subscribed');
      for (let n = 0; n < 20; n++) {
        here.unsubscribe();
        here.subscribe();
      }
      await eventually(() => here.state === 'subscribed');
      await node.publish(channel, { last: true });
      assert.deepEqual(back((await here.seen.next('publication')).data), { last: true });
    });
  });
}
