// One gyre process per `start`: configuration, free port, readiness, clean end. Config and binary are those of the
// Python tests.

import { spawn } from 'node:child_process';
import { createHmac } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { after, describe } from 'node:test';

const ROOT = resolve(import.meta.dirname, '../../../..');
const BINARY = resolve(process.env.GYRE_BIN || join(ROOT, 'target/release/gyre'));
const BASE_CONFIG = JSON.parse(readFileSync(join(ROOT, 'tests/blackbox/config.json'), 'utf8'));
const SECRET = BASE_CONFIG.client.token.hmac_secret_key;
const STOP_WITHIN_MS = 15_000;

export const CORES = (process.env.GYRE_TEST_CORES || '1,2,4').split(',').map(Number);

/** Runs `tests(node)` as a suite per core count, each with a process of its own (`node()` is that process). */
export function onEveryCoreCount(name, tests) {
  for (const cores of CORES) {
    describe(`${name}, cores ${cores}`, () => {
      let started;
      const node = async () => (started ??= start({ cores }));
      after(async () => (await started)?.stop());
      tests(node);
    });
  }
}

// Blocks of ports as in harness/ports.py of the Python tests: a process holds a block by listening on its first port and
// gives out the others in turn.
const BLOCK = 200;
const BLOCKS = [];
for (let first = 12_000; first < 32_000; first += BLOCK) if (first < 22_000 || first >= 22_800) BLOCKS.push(first);

/** Holds a port, unless somebody else does. */
const listen = (port) =>
  new Promise((answer) => {
    const holder = createServer();
    holder.once('error', () => answer(null));
    holder.listen(port, '127.0.0.1', () => answer(holder.unref()));
  });

async function* portsOfThisProcess() {
  const order = BLOCKS.map((first) => [Math.random(), first]).sort(([a], [b]) => a - b);
  for (const [, first] of order) {
    if (!(await listen(first))) continue;
    for (let port = first + 1; port < first + BLOCK; port++) {
      const holder = await listen(port);
      if (holder) {
        await new Promise((closed) => holder.close(closed));
        yield port;
      }
    }
  }
}

const ports = portsOfThisProcess();

/** Given out once, below the ephemeral range, so that no outgoing connection takes it meanwhile. */
async function freePort() {
  const { value } = await ports.next();
  if (!value) throw new Error('every port of the tests is taken');
  return value;
}

/** `changes` laid over `base`, object by object. */
function merged(base, changes) {
  const isObject = (value) => value !== null && typeof value === 'object' && !Array.isArray(value);
  const result = { ...base };
  for (const [key, value] of Object.entries(changes)) {
    result[key] = isObject(value) && isObject(result[key]) ? merged(result[key], value) : value;
  }
  return result;
}

/** Starts a process and waits for its /health. */
export async function start({ cores = 2, changes = {}, port = undefined } = {}) {
  const dir = mkdtempSync(join(tmpdir(), 'gyre-test-'));
  port ??= await freePort();
  const config = merged(merged(BASE_CONFIG, { http_server: { address: '127.0.0.1', port } }), changes);
  writeFileSync(join(dir, 'config.json'), JSON.stringify(config));
  const env = { PATH: process.env.PATH, HOME: dir, GYRE_CORES: String(cores) };
  const child = spawn(BINARY, ['-c', 'config.json'], { cwd: dir, env, stdio: ['ignore', 'pipe', 'pipe'] });
  const node = new Gyre(child, dir, port, config);
  try {
    await eventually(() => node.isReady(), 10_000, 'answer of /health');
  } catch (error) {
    node.kill();
    throw error;
  }
  return node;
}

export class Gyre {
  constructor(child, dir, port, config) {
    Object.assign(this, { child, dir, port, key: config.http_api.key, output: '' });
    this.ended = new Promise((answer) => child.once('exit', (code, signal) => answer({ code, signal })));
    child.once('error', (error) => (this.output += `cannot start ${BINARY}: ${error.message}\n`));
    for (const stream of [child.stdout, child.stderr]) stream.on('data', (text) => (this.output += text));
    // Whatever ends the test run, the process ends with it.
    this.kill = () => child.kill('SIGKILL');
    process.once('exit', this.kill);
  }

  get url() {
    return `ws://127.0.0.1:${this.port}/connection/websocket`;
  }

  async isReady() {
    if (this.child.exitCode !== null || this.output.startsWith('cannot start')) {
      throw new Error(`gyre ended while starting:\n${this.output}`);
    }
    const answer = await fetch(`http://127.0.0.1:${this.port}/health`).catch(() => null);
    return answer?.status === 200;
  }

  /** SIGTERM; the exit code must be 0. */
  async stop() {
    process.removeListener('exit', this.kill);
    const patience = setTimeout(this.kill, STOP_WITHIN_MS);
    this.child.kill('SIGTERM');
    const { code, signal } = await this.ended;
    clearTimeout(patience);
    rmSync(this.dir, { recursive: true, force: true });
    if (code !== 0) throw new Error(`exit code ${code}, signal ${signal} after SIGTERM:\n${this.output.slice(-4000)}`);
  }

  /** The result of a server API method; an error of the API is thrown. */
  async api(method, request = {}) {
    const options = { method: 'POST', headers: { 'X-API-Key': this.key }, body: JSON.stringify(request) };
    const answer = await fetch(`http://127.0.0.1:${this.port}/api/${method}`, options);
    if (answer.status !== 200) throw new Error(`${method}: status ${answer.status}`);
    const { error, result } = await answer.json();
    if (error) throw Object.assign(new Error(`${method}: ${error.message}`), error);
    return result;
  }

  publish(channel, data, rest = {}) {
    return this.api('publish', { channel, data, ...rest });
  }
}

/** An HS256 token; `exp` in `lifetimeS` seconds unless null. */
export function token(user = '42', claims = {}, { secret = SECRET, lifetimeS = 3600 } = {}) {
  const encode = (value) => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = { ...claims };
  if (user !== null) body.sub = user;
  if (lifetimeS !== null) body.exp = Math.floor(Date.now() / 1000) + lifetimeS;
  const signed = `${encode({ alg: 'HS256', typ: 'JWT' })}.${encode(body)}`;
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`;
}

/** Polls until `probe` returns something truthy, and returns that. Exceptions of the probe end the waiting. */
export async function eventually(probe, withinMs = 5000, what = 'the expected state') {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const found = await probe();
    if (found) return found;
    if (Date.now() > deadline) throw new Error(`no ${what} within ${withinMs} ms`);
    await new Promise((go) => setTimeout(go, 20));
  }
}

let names = 0;

/** fresh('open') -> a channel of that namespace that no other test uses; fresh() -> a bare name. */
export const fresh = (namespace) => (namespace ? `${namespace}:js${++names}` : `js${++names}`);
