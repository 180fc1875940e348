// A backend for Gyre in plain Node.js: who may connect, read and write, calls, state events, empty caches.
//
//     node backend.mjs            listens on 127.0.0.1:3000, calls Gyre's API at http://127.0.0.1:8000/api
//
// Gyre asks by POST with a JSON object and takes an answer of status 200: {"result": {…}}, {"error": {"code", "message"}} or
// {"disconnect": {"code", "reason"}}. PORT, GYRE_API and GYRE_API_KEY in the environment change the defaults.

import http from 'node:http'

const PORT = Number(process.env.PORT ?? 3000)
const GYRE_API = process.env.GYRE_API ?? 'http://127.0.0.1:8000/api'
const GYRE_API_KEY = process.env.GYRE_API_KEY ?? 'change-me'

// In real life: your sessions, members and messages.
const SESSIONS = new Map([['ann-session', 'ann'], ['bob-session', 'bob']])
const MEMBERS = new Map([['room:1', new Set(['ann', 'bob'])], ['room:2', new Set(['ann'])]])
const MESSAGES = new Map([['room:1', [{ from: 'bob', text: 'Hello!' }]]])
const SCORES = new Map([['score:final', { home: 2, away: 1 }]])
const occupied = new Set()

const events = {
  // Who is it? Gyre has forwarded the cookie of the page.
  '/connect' (call, headers) {
    const cookie = /(?:^|;\s*)session=([^;]*)/.exec(headers.cookie ?? '')
    const user = SESSIONS.get(cookie?.[1])
    // 4500 and above: do not come back by yourself.
    if (!user) return { disconnect: { code: 4501, reason: 'sign in first' } }
    return { result: { user, info: { name: user[0].toUpperCase() + user.slice(1) } } }
  },

  // May this user read the channel? The first data travels with the answer.
  '/subscribe' ({ user, channel }) {
    if (!MEMBERS.get(channel)?.has(user)) return { error: { code: 403, message: 'not a member' } }
    return { result: { data: { messages: MESSAGES.get(channel) ?? [] } } }
  },

  // May this user write it? Others get what we answer, not what the client sent.
  '/publish' ({ user, channel, data }) {
    const text = data?.text
    if (!MEMBERS.get(channel)?.has(user)) return { error: { code: 403, message: 'not a member' } }
    if (typeof text !== 'string' || text.length < 1 || text.length > 500) {
      return { error: { code: 400, message: 'text of 1 to 500 characters expected' } }
    }
    const message = { from: user, text }
    MESSAGES.set(channel, [...(MESSAGES.get(channel) ?? []), message])
    return { result: { data: message } }
  },

  // Anything else a client may want to know.
  '/rpc' ({ user, method }) {
    if (method === 'rooms') {
      return { result: { data: [...MEMBERS].filter(([, users]) => users.has(user)).map(([room]) => room).sort() } }
    }
    if (method === 'occupied') return { result: { data: [...occupied].sort() } }
    return { error: { code: 404, message: 'no such method' } }
  },

  // Channels that got their first subscriber, and that have lost the last one. May be told twice.
  '/state' ({ events }) {
    for (const { type, channel } of events) {
      if (type === 'occupied') occupied.add(channel)
      else if (type === 'vacated') occupied.delete(channel)
    }
    return { result: {} }
  },

  // A subscriber wants the latest state of a channel, and Gyre has none: publish it, and say so.
  async '/cache_empty' ({ channel }) {
    if (!SCORES.has(channel)) return { result: { populated: false } }
    await gyre('publish', { channel, data: SCORES.get(channel) })
    return { result: { populated: true } }
  }
}

// One call of Gyre's server API.
async function gyre (method, request) {
  const headers = { 'Content-Type': 'application/json', 'X-API-Key': GYRE_API_KEY }
  const signal = AbortSignal.timeout(5000)
  const answer = await fetch(`${GYRE_API}/${method}`, { method: 'POST', headers, body: JSON.stringify(request), signal })
  const reply = await answer.json()
  if (reply.error) throw new Error(`${method}: ${reply.error.message}`)
  return reply.result
}

const server = http.createServer(async (request, response) => {
  let status = 200
  let answer = {}
  try {
    let body = ''
    for await (const part of request.setEncoding('utf8')) body += part
    const handle = Object.hasOwn(events, request.url) ? events[request.url] : undefined
    if (handle) answer = await handle(JSON.parse(body), request.headers)
    else status = 404
  } catch (error) {
    // Gyre answers its client with error 100, and logs the status.
    console.error(request.url, error)
    status = 500
  }
  const text = JSON.stringify(answer)
  response.writeHead(status, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) })
  response.end(text)
})

// Longer than Gyre keeps an idle connection. With Node's 5 s a call could meet a connection that is just being closed.
server.keepAliveTimeout = 120_000
server.listen(PORT, '127.0.0.1', () => console.log(`listening on http://127.0.0.1:${PORT}`))
