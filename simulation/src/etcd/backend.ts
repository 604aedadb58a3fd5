import * as Effect from "effect/Effect"
import type { ITxnRequest } from "etcd3"
import { type CallFailure, fromClient, silent } from "../../../packages/dlock-etcd/src/internal/failure.ts"
import type { Port, WatchStream } from "../../../packages/dlock-etcd/src/internal/port.ts"
import * as Store from "../../../packages/dlock-etcd/src/internal/store.ts"
import type { Backend } from "../backend.ts"
import type { Plan } from "../plan.ts"
import type { Process } from "../process.ts"
import { Random } from "../random.ts"
import { prefix } from "../section.ts"
import { millis } from "../timeline.ts"
import { atServer, Calls, type Network } from "./network.ts"
import { type EtcdFlaws, EtcdServer, idIn } from "./server.ts"
import { membersOf } from "./store.ts"
import { type Listeners, Stream } from "./stream.ts"
import { wordsOf } from "./words.ts"

/** With what the leases and claims of another library's client begin here, and how many seconds they live at most. */
const foreign = "foreign-"
const mostForeign = 5

/** Milliseconds: the lease by which a process shows that it lives. */
const longestLife = 5_000

/** Milliseconds: the store's default. */
const callLimit = 2_000

export const make = (world: Omit<Network, "server" | "awakeAt" | "upAt">, plan: Plan, flaws: EtcdFlaws): Backend => {
  const { timeline, ledger } = world
  const late = Random.of(world.seed, 7)
  const lateness = () => millis(late.between(0, 1_000))
  const leastTtl = late.between(1, 2)
  const odd = Random.of(world.seed, 8)
  const tokenLife = plan.has.has("tokens") ? odd.between(millis(300), millis(3_000)) : Infinity
  const between = plan.has.has("proxies") ? { mixesUp: () => odd.chance(0.3) } : undefined
  const server = new EtcdServer(timeline, ledger, flaws, lateness, leastTtl, between)
  const network: Network = { ...world, server, awakeAt: 0, upAt: 0 }
  const calls = new Map<number, Calls>()
  const streams = new Map<number, Set<Stream>>()
  /** What the owner of a lease may believe of it, by its own clock. */
  const believed = new Map<string, number>()
  /** By the claims that have been asked for. */
  const processes = new Map<string, number>()
  let foreigners = 0
  const foreignFor = millis(mostForeign * 1_000 + server.lateness)
  let foreignUntil = 0

  const vouch = (lease: string, until: number): void => {
    if (until > (believed.get(lease) ?? -Infinity)) believed.set(lease, until)
    for (const id of server.claimsOn(lease)) ledger.vouch(id, believed.get(lease)!)
  }

  const portOf = (process: Process, mine: Calls): Port => {
    const random = Random.of(world.seed, 6, process.index)
    const own = new Set<Stream>()
    streams.set(process.index, own)
    let told = 0
    /** Requests of each claim for a place that have been sent and not answered. */
    const unheard = new Map<string, number>()
    /** The claim for which a name was last asked. */
    const standsAt = new Map<string, string>()

    const keepAlive = (id: string, limit?: number) =>
      mine.call({
        words: `keepAlive ${id}`,
        execute: (sentAt) => {
          const ttl = server.keepAlive(id)
          if (ttl > 0) vouch(id, sentAt + millis(ttl * 1_000))
          return ttl
        }
      }, limit)

    const isSent = ({ success }: ITxnRequest): void => {
      const put = success?.[0]?.request_put
      const entering = put && idIn(put.value)
      if (entering === undefined) return
      processes.set(entering, process.index)
      standsAt.set(String(put!.key), entering)
      unheard.set(entering, (unheard.get(entering) ?? 0) + 1)
    }

    const isHeard = ({ compare = [], success = [] }: ITxnRequest): void => {
      const [first, ...others] = success
      const entering = first?.request_put && idIn(first.request_put.value)
      if (entering !== undefined) unheard.set(entering, unheard.get(entering)! - 1)
      const marks = others.some(({ request_put }) => request_put !== undefined)
      // A withdrawal knows the revision or leaves a mark; to sweep a stranger away does neither.
      const left = marks || compare.length > 0 ? standsAt.get(String(first?.request_delete_range?.key)) : undefined
      if (left === undefined) return
      // Without a mark it may be the first of two, where a request is still on its way.
      if (marks || (unheard.get(left) ?? 0) === 0) ledger.leftForGood(left)
    }

    const connect = (listeners: Listeners): Effect.Effect<WatchStream, CallFailure> =>
      Effect.callback<WatchStream, CallFailure>((resume) => {
        let given = true
        timeline.in(random.between(400, 5_000), () =>
          atServer(network, () => {
            process.deliver(() => {
              if (!given) {
                return
              }
              const stream = new Stream(network, process, listeners, random, () =>
                told++, tokenLife)
              own.add(stream)
              resume(Effect.succeed(stream))
            })
          }, () =>
            process.deliver(() =>
              resume(Effect.fail(fromClient(new Error("14 UNAVAILABLE: No connection established"))))
            )))
        return Effect.sync(() => void (given = false))
      }).pipe(Effect.timeoutOrElse({ duration: callLimit, orElse: () => Effect.fail(silent) }))

    return {
      txn: (request, limit) =>
        mine.call({
          words: `txn ${wordsOf(request)}`,
          execute: () => {
            const answer = server.txn(request)
            for (const { success } of membersOf(request)) {
              const lease = success?.[0]?.request_put?.lease
              if (lease !== undefined && believed.has(String(lease))) vouch(String(lease), -Infinity)
            }
            return answer
          },
          sent: () => membersOf(request).forEach(isSent),
          heard: () => membersOf(request).forEach(isHeard)
        }, limit),
      grant: (id, seconds) =>
        mine.call({
          words: `grant ${id} ${seconds}`,
          isKept: true,
          execute: (sentAt) => {
            const ttl = server.grant(id, seconds)
            if (!(ttl instanceof Error)) vouch(id, sentAt + millis(ttl * 1_000))
            return ttl
          }
        }).pipe(
          Effect.catchIf((failure) => /lease already exists/.test(failure.cause.message), () => keepAlive(id))
        ),
      revoke: (id) => mine.call({ words: `revoke ${id}`, execute: () => server.revoke(id) }),
      isAway: () => false,
      abandon: () => mine.abandon(),
      keepAlive,
      inspect: (id, limit) => mine.call({ words: `inspect ${id}`, execute: () => server.inspect(id) }, limit),
      watch: connect
    }
  }

  return {
    knows: (key, id) => server.knows(key, id),
    queueOf: (key) => server.queueOf(key).map((id) => processes.get(id ?? "")),
    open: (process, onMessage) =>
      Effect.gen(function*() {
        const mine = new Calls(network, process, callLimit)
        mine.onMessage = onMessage
        calls.set(process.index, mine)
        yield* Effect.addFinalizer(() => Effect.sync(() => mine.cut()))
        return yield* Store.make(portOf(process, mine))
      }),
    strike: ({ choice, duration, key, kind, process }, until) => {
      const lock = prefix + key
      const random = new Random(choice)
      switch (kind) {
        case "server paused":
          network.awakeAt = Math.max(network.awakeAt, until)
          return
        case "server restarted":
        case "data lost":
          network.upAt = Math.max(network.upAt, until)
          server.restart()
          // Another library's lease too has its whole time again.
          if (foreignUntil > timeline.now) foreignUntil = Math.max(foreignUntil, timeline.now + foreignFor)
          if (kind === "data lost") {
            server.loseData()
            for (const key of plan.keys) ledger.forgotTokens(prefix + key)
          }
          for (const one of calls.values()) one.cut()
          return
        case "key deleted":
          return server.deleteLock(lock)
        case "early expiry":
          return server.endLeases(() => random.chance(0.5))
        case "lease revoked":
          return server.endLeases((index) => index === random.between(0, 3))
        case "history compacted":
          return server.compact()
        case "connections cut":
          calls.get(process)?.cut()
          for (const stream of streams.get(process) ?? []) stream.end()
          return
        case "cut off":
          calls.get(process)?.stall(until)
          for (const stream of streams.get(process) ?? []) stream.goSilent(until - timeline.now)
          return
        case "listener silent":
          for (const stream of streams.get(process) ?? []) stream.goSilent(until - timeline.now)
          return
        case "foreign lock": {
          const seconds = Math.min(mostForeign, Math.ceil(duration / 1_000_000))
          const lease = `${foreign}${++foreigners}`
          server.grant(lease, seconds)
          server.txn({
            success: [{ request_put: { key: Buffer.from(`${lock}/${lease}`), value: Buffer.alloc(0), lease } }]
          })
          foreignUntil = Math.max(foreignUntil, timeline.now + foreignFor)
          return
        }
      }
    },
    heal: () => {},
    // The leases of a process outlive its connections.
    hangUp: () => {},
    leftovers: () => server.leftovers().filter((what) => !what.includes(foreign)),
    longestLife,
    lateness: () => server.lateness + Math.max(0, foreignUntil - timeline.now) / 1_000
  }
}
