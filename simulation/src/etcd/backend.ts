import { LockAdmin, LockStore } from "effect-dlock"
import * as StoreTelemetry from "effect-dlock/StoreTelemetry"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as FiberSet from "effect/FiberSet"
import type { ITxnRequest, ITxnResponse } from "etcd3"
import {
  type CallFailure,
  fromClient,
  silentFailure
} from "../../../packages/dlock-etcd/src/internal/client/failure.ts"
import type { Port, WatchStream } from "../../../packages/dlock-etcd/src/internal/client/port.ts"
import * as Store from "../../../packages/dlock-etcd/src/internal/store/store.ts"
import type { Backend } from "../backend.ts"
import { mixesEventsUp } from "../dimensions.ts"
import type { Network as Shared } from "../network.ts"
import type { Plan } from "../plan.ts"
import type { Process } from "../process.ts"
import { Random } from "../random.ts"
import { prefix } from "../section.ts"
import { millis } from "../timeline.ts"
import { atMember, type Call, Calls, type Network } from "./network.ts"
import { callKindOf, ofTokens, Refusals } from "./refusals.ts"
import { type EtcdFlaws, EtcdServer, idIn } from "./server.ts"
import { membersOf, placingsIn } from "./store.ts"
import { type Listeners, Stream } from "./stream.ts"
import { traceOf } from "./trace.ts"

/** The prefix of leases and claims of another library's client, and how many seconds they live at most. */
const foreign = "foreign-"
const mostForeign = 5

/** Milliseconds: the lease that shows that a process lives. */
const longestLife = 5_000

/** Milliseconds: the store's default. */
const operationTimeout = 2_000

/** The claim that a transaction puts into a queue. */
const enteringIn = (request: ITxnRequest): ReadonlyArray<string> =>
  Array.from(new Set(placingsIn(request).flatMap(({ value }) => idIn(value) ?? [])))

/** The tombstones that a transaction leaves. */
const tombstonesIn = ({ success = [] }: ITxnRequest): ReadonlyArray<string> =>
  success.slice(1).flatMap(({ request_put }) => {
    const key = String(request_put?.key)
    return key.includes("\0") && !isOfRevocations(key) ? key : []
  })

/** Whether a key is a mark on a claim, or the bell that rings for it. */
const isOfRevocations = (key: string): boolean => /\0revoked(\0|$)/.test(key)

/** `changed`: how a variant changes the port before the store gets it. */
export const make = (
  world: Omit<Shared<EtcdServer>, "server" | "awakeAt" | "upAt">,
  plan: Plan,
  flaws: EtcdFlaws,
  changed: (port: Port) => Port = (port) => port
): Backend => {
  const { timeline, serverLog } = world
  const late = Random.of(world.seed, 7)
  const lateness = () => millis(late.between(0, 1_000))
  const leastTtl = late.between(1, 2)
  const odd = Random.of(world.seed, 8)
  const tokenLife = odd.between(millis(300), millis(3_000))
  const tokens = plan.dimensions.has("tokens") ? { life: tokenLife, refusal: odd.pick(ofTokens) } : undefined
  const mostListeners = plan.dimensions.has("far-waiters") ? Random.of(world.seed, 24).between(1, 2) : undefined
  const order = Random.of(world.seed, 32)
  const between = plan.dimensions.has("proxies")
    ? { mixesUp: () => mixesEventsUp(plan.dimensions) && odd.chance(0.3), beginsAfter: () => order.between(0, 3_000) }
    : undefined
  const server = new EtcdServer(timeline, serverLog, flaws, lateness, leastTtl, between)
  const refusals = new Refusals(timeline, plan.members)
  const network: Network = {
    ...world,
    server,
    refusals,
    flaws,
    tokens,
    members: plan.members,
    awakeAt: 0,
    upAt: 0
  }
  const calls = new Map<number, Calls>()
  const streams = new Map<number, Set<Stream>>()
  /** By lease, until when it is confirmed, by its owner's clock. */
  const confirmedUntil = new Map<string, number>()
  /** By claim, the process that asked for it. */
  const processes = new Map<string, number>()
  server.processOf = (id) => processes.get(id ?? "")
  let foreigners = 0
  const foreignFor = millis(mostForeign * 1_000 + server.lateness)
  let foreignUntil = 0

  const confirm = (lease: string, until: number): void => {
    if (until > (confirmedUntil.get(lease) ?? -Infinity)) confirmedUntil.set(lease, until)
    for (const id of server.claimsOn(lease)) serverLog.confirmUntil(id, confirmedUntil.get(lease)!)
  }

  const portOf = (process: Process, mine: Calls): Port => {
    const random = Random.of(world.seed, 6, process.index)
    const own = new Set<Stream>()
    streams.set(process.index, own)
    let told = 0
    /** By claim, how many requests for a place are sent and not answered. */
    const unanswered = new Map<string, number>()
    /** By key, the claim that was last requested under it. */
    const claimAt = new Map<string, string>()

    const keepAlive = (id: string, limit?: number, isPressing = true) =>
      mine.call({
        words: `keepAlive ${id}`,
        kind: "keepAlive",
        execute: (sentAt) => {
          const ttl = server.keepAlive(id)
          if (ttl > 0) confirm(id, sentAt + millis(ttl * 1_000))
          return ttl
        }
      }, { limit, isPressing })

    const countUnanswered = (id: string, more: number): void =>
      void unanswered.set(id, (unanswered.get(id) ?? 0) + more)

    const noteSent = (request: ITxnRequest): void => {
      for (const tombstone of tombstonesIn(request)) {
        serverLog.recordTombstone(tombstone.slice(tombstone.indexOf("\0") + 1))
      }
      for (const entering of enteringIn(request)) {
        processes.set(entering, process.index)
        countUnanswered(entering, 1)
      }
      for (const { key, value } of placingsIn(request)) {
        const id = idIn(value)
        if (id !== undefined) claimAt.set(String(key), id)
      }
    }

    const noteHeard = (request: ITxnRequest): void => {
      for (const entering of enteringIn(request)) countUnanswered(entering, -1)
      const tombstones = tombstonesIn(request)
      // A withdrawal knows the revision or leaves a tombstone; the removal of a dead process's claim does neither.
      const withdraws = tombstones.length > 0 || (request.compare ?? []).length > 0
      const left = withdraws ? claimAt.get(String(request.success?.[0]?.request_delete_range?.key)) : undefined
      if (left === undefined) return
      // Without a tombstone it may be the first of two withdrawals, if a request is still on its way.
      if (tombstones.length > 0 || (unanswered.get(left) ?? 0) === 0) serverLog.recordWithdrawal(left)
    }

    const connect = (listeners: Listeners): Effect.Effect<WatchStream, CallFailure> =>
      Effect.callback<WatchStream, CallFailure>((resume) => {
        let given = true
        const host = mine.failover.host()
        timeline.in(random.between(400, 5_000), () =>
          atMember(network, host.member, () => {
            const refusal = refusals.saidBy(host.member, "watch", random)
            const isRefused = refusal !== undefined && refusal.cancelReason === undefined
            process.deliver(() => {
              if (!given) {
                return
              }
              const stream = new Stream(network, process, listeners, random, () =>
                told++, host)
              own.add(stream)
              resume(Effect.succeed(stream))
              if (isRefused) {
                stream.end()
              }
            })
          }, () =>
            process.deliver(() =>
              resume(Effect.fail(fromClient(new Error("14 UNAVAILABLE: No connection established"))))
            )))
        return Effect.sync(() => void (given = false))
      }).pipe(Effect.timeoutOrElse({ duration: operationTimeout, orElse: () => Effect.fail(silentFailure) }))

    return {
      telemetry: mine.telemetry,
      longest: operationTimeout,
      txn: (request, limit, onUnsent) => {
        const entering = membersOf(request).flatMap(enteringIn)
        const call: Call<ITxnResponse> = {
          words: `txn ${traceOf(request)}`,
          kind: callKindOf(request),
          execute: () => {
            const answer = server.txn(request)
            for (const { lease } of membersOf(request).flatMap(placingsIn)) {
              if (lease !== undefined && confirmedUntil.has(String(lease))) confirm(String(lease), -Infinity)
            }
            return answer
          },
          onSent: () => membersOf(request).forEach(noteSent),
          onAnswer: () => membersOf(request).forEach(noteHeard),
          onRefusal: () => entering.forEach((id) => countUnanswered(id, -1)),
          onStart: () => entering.forEach((id) => serverLog.recordSent(id)),
          onOutcome: (took) => entering.forEach((id) => serverLog.recordAnswer(id, took))
        }
        return mine.call(call, { limit, onUnsent })
      },
      grant: (id, seconds) =>
        mine.call({
          words: `grant ${id} ${seconds}`,
          kind: "grant",
          isKept: true,
          execute: (sentAt) => {
            const ttl = server.grant(id, seconds)
            if (!(ttl instanceof Error)) confirm(id, sentAt + millis(ttl * 1_000))
            return ttl
          }
        }).pipe(
          Effect.catchIf((failure) => /lease already exists/.test(failure.cause.message), () => keepAlive(id))
        ),
      revoke: (id) =>
        mine.call({ words: `revoke ${id}`, kind: "revoke", execute: () => server.revoke(id) }, {
          isPressing: true
        }),
      heardAt: () => mine.failover.heardAt(),
      isAway: (): boolean => mine.failover.isAway(),
      abandon: () => mine.abandon(),
      keepAlive,
      keepAliveOnStream: (id, limit) => keepAlive(id, limit, false),
      inspect: (id, limit) =>
        mine.call({ words: `inspect ${id}`, kind: "inspect", execute: () => server.inspect(id) }, {
          limit,
          isPressing: true
        }),
      timeToLive: (id) => mine.call({ words: `time of ${id}`, kind: "inspect", execute: () => server.inspect(id).ttl }),
      watch: connect
    }
  }

  return {
    hasClaim: (key, id) => server.hasClaim(key, id),
    // After the server has lost its data, tokens may repeat.
    grantedWith: (process, key, token) => {
      const id = server.idOf(key, token)
      return server.processOf(id) === process ? id : undefined
    },
    queueOf: (key) => server.queueOf(key).map((id) => server.processOf(id)),
    stateOf: (key) => server.stateOf(key),
    processOf: (id) => processes.get(id),
    holderOf: (key) => server.holderOf(key),
    hasRefusedSince: (since) => refusals.hasRefusedSince(since),
    open: (process, onMessage) =>
      Effect.gen(function*() {
        const mine = new Calls(
          network,
          process,
          operationTimeout,
          yield* FiberSet.makeRuntime<never>(),
          yield* StoreTelemetry.make("etcd")
        )
        mine.onMessage = onMessage
        calls.set(process.index, mine)
        yield* Effect.addFinalizer(() => Effect.sync(() => mine.cut()))
        const made = yield* Store.makeWithAdmin(changed(portOf(process, mine)), mostListeners)
        return { store: Context.get(made, LockStore), admin: Context.get(made, LockAdmin) }
      }),
    inject: ({ choice, duration, key, kind, process }, until) => {
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
          // The lease of another library starts again with its whole ttl too.
          if (foreignUntil > timeline.now) foreignUntil = Math.max(foreignUntil, timeline.now + foreignFor)
          if (kind === "data lost") {
            server.loseData()
            for (const key of plan.keys) serverLog.recordTokensForgotten(prefix + key)
          }
          for (const one of calls.values()) one.cut()
          return
        case "key deleted":
          return server.deleteLock(lock)
        case "claim deleted":
          return plan.dimensions.has("shared-deletions")
            ? server.deleteSharedClaim(lock, random.pick([-1, random.between(0, 8)]), random.chance(0.5))
            : server.deleteClaim(lock, random.between(1, 3))
        case "early expiry":
          return server.endLeases(() => random.chance(0.5))
        case "lease revoked":
          return server.endLeases((index) => index === random.between(0, 3))
        case "history compacted":
          return server.compact()
        case "epoch raised":
          return server.raiseEpoch(prefix, BigInt(choice))
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
        case "member silent": {
          const member = process % plan.members
          for (const stream of Array.from(streams.values()).flatMap((own) => Array.from(own))) {
            if (stream.member === member) stream.goSilent(until - timeline.now)
          }
          return refusals.begin(kind, process, until, choice)
        }
        case "member refuses":
        case "space exceeded":
        case "permission denied":
          return refusals.begin(kind, process, until, choice)
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
