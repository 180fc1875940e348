// What an application behind the official SDK notices of time passing: token refresh, pings, restarts, slow networks.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import WebSocket from 'ws';

import { CORES, eventually, start, token } from './harness/gyre.mjs';
import { connect, subscribe } from './harness/client.mjs';

const passed = (ms) => new Promise((go) => setTimeout(go, ms));

describe('C18 D13 tokens are refreshed', () => {
  // Users would be thrown out every few minutes.
  test('connection and subscription outlive their first token', async (t) => {
    const client = { expired_close_delay: '1s', expired_sub_close_delay: '1s', presence_update_interval: '1s' };
    const node = await start({ changes: { client } });
    t.after(() => node.stop());
    let asked = 0;
    const short = (claims) => (asked++, token('42', claims, { lifetimeS: 3 }));
    const user = connect(t, node, { token: short({}), getToken: async () => short({}) });
    const here = subscribe(user, 'closed:a', { getToken: async ({ channel }) => short({ channel }) });
    await here.seen.next('subscribed');
    await passed(9000); // three lives of a token; nothing to poll, the point is that nothing happens
    assert.deepEqual([user.state, here.state], ['connected', 'subscribed']);
    assert.ok(asked >= 5, `asked for ${asked} tokens`);
    assert.deepEqual(here.seen.events.map(([kind]) => kind), []);
    user.disconnect();
  });
});

describe('B15 pings', () => {
  // The SDK closes connections on which it hears nothing.
  test('keep an idle client connected', async (t) => {
    const node = await start({ changes: { client: { ping_interval: '1s', pong_timeout: '500ms' } } });
    t.after(() => node.stop());
    const client = connect(t, node, { maxServerPingDelay: 1000 });
    await client.seen.next('connected');
    await passed(5000); // several pings; nothing to poll
    assert.deepEqual([client.state, client.seen.events], ['connected', []]);
    client.disconnect();
  });
});

describe('A19 C25 restart of the node', () => {
  for (const cores of CORES) {
    // On every deployment applications would need a reload of the page.
    test(`clients come back by themselves, cores ${cores}`, async (t) => {
      const first = await start({ cores });
      const clients = Array.from({ length: 10 }, (_, n) => connect(t, first, { user: `${n}` }));
      const subscriptions = clients.map((client) => subscribe(client, 'recovery:a'));
      for (const subscription of subscriptions) await subscription.seen.next('subscribed');
      await first.publish('recovery:a', 'before');
      for (const subscription of subscriptions) await subscription.seen.next('publication');
      await first.stop();
      for (const client of clients) {
        const { code, reason } = await client.seen.next('connecting').then((event) =>
          event.code === 0 ? client.seen.next('connecting') : event,
        );
        assert.deepEqual([code, reason], [3001, 'shutdown']);
      }
      const second = await start({ cores, port: first.port });
      t.after(() => second.stop());
      for (const subscription of subscriptions) {
        const again = await subscription.seen.next('subscribed', 15_000);
        assert.deepEqual([again.wasRecovering, again.recovered], [true, false], 'the memory engine forgot');
      }
      await second.publish('recovery:a', 'after');
      for (const subscription of subscriptions) {
        assert.equal((await subscription.seen.next('publication')).data, 'after');
      }
      clients.forEach((client) => client.disconnect());
    });
  }
});

describe('B16 slow consumers', () => {
  for (const cores of CORES) {
    // One phone in a tunnel must not slow down or fill up the node.
    test(`one is dropped, the others go on, cores ${cores}`, async (t) => {
      const node = await start({ cores, changes: { client: { queue_max_size: 200_000 } } });
      t.after(() => node.stop());
      const slow = new WebSocket(node.url);
      await new Promise((opened) => slow.once('open', opened));
      slow.on('error', () => {});
      slow.send(`{"id":1,"connect":{"token":"${token()}"}}\n{"id":2,"subscribe":{"channel":"open:flood"}}`);
      await eventually(async () => 'open:flood' in (await node.api('channels')).channels);
      slow.pause();
      const good = subscribe(connect(t, node, { user: '7' }), 'open:flood');
      await good.seen.next('subscribed');
      for (let n = 0; n < 200; n++) {
        await node.publish('open:flood', { n, padding: 'x'.repeat(100_000) });
        assert.equal((await good.seen.next('publication')).data.n, n);
      }
      const left = async () => (await node.api('channels')).channels['open:flood'].num_clients === 1;
      await eventually(left, 5000, 'end of the slow client');
      slow.terminate();
    });
  }
});

describe('two-minute tour', () => {
  // The snippet of the README, against the options that `--dev` stands for.
  test('works without keys and tokens', async (t) => {
    const changes = {
      client: { insecure: true, allowed_origins: ['*'] },
      http_api: { insecure: true, key: '' },
      channel: { without_namespace: { history_size: 10, history_ttl: '60s' } },
    };
    const node = await start({ changes });
    t.after(() => node.stop());
    const hello = subscribe(connect(t, node, { token: '' }), 'hello');
    await hello.seen.next('subscribed');
    await node.publish('hello', { text: 'hi from curl' });
    const { data, offset } = await hello.seen.next('publication');
    assert.deepEqual([data, offset], [{ text: 'hi from curl' }, 1]);
  });
});
