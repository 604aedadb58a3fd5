// The model of etcd beside a real one: what the store may ask is asked of both, and they must say the same.
import { assert, describe, it } from "@effect/vitest"
import { addLearner, enableAuth, etcdctl, startEtcd, startEtcdCluster } from "dlock-testing"
import { Duration, Effect } from "effect"
import { type Claim, readWriteCapacity } from "effect-dlock/LockStore"
import type { ITxnRequest, ITxnResponse, IWatchResponse } from "etcd3"
import { open } from "../../packages/dlock-etcd/src/internal/client/connection.ts"
import { connect, type Host } from "../../packages/dlock-etcd/src/internal/client/host.ts"
import type { Port } from "../../packages/dlock-etcd/src/internal/client/port.ts"
import { claimKeys, epochKey, lockKeys } from "../../packages/dlock-etcd/src/internal/protocol/keys.ts"
import type { Operation } from "../../packages/dlock-etcd/src/internal/protocol/operation.ts"
import * as SharedTransactions from "../../packages/dlock-etcd/src/internal/protocol/sharedTransactions.ts"
import * as Transactions from "../../packages/dlock-etcd/src/internal/protocol/transactions.ts"
import { Checker } from "../src/checker.ts"
import { type CallKind, denied, noSpace, ofLearner, type Refusal } from "../src/etcd/refusals.ts"
import { EtcdServer } from "../src/etcd/server.ts"
import type { Watcher } from "../src/etcd/watching.ts"
import * as Plans from "../src/planning.ts"
import { Random } from "../src/random.ts"
import { ServerLog } from "../src/serverLog.ts"
import { millis, Timeline } from "../src/timeline.ts"

const kinds: ReadonlyArray<Pick<Claim, "kind" | "permits" | "capacity">> = [
  { kind: "mutex", permits: 1, capacity: 1 },
  { kind: "mutex", permits: 1, capacity: 1 },
  { kind: "semaphore", permits: 1, capacity: 3 },
  { kind: "semaphore", permits: 3, capacity: 3 },
  { kind: "readWrite", permits: 1, capacity: readWriteCapacity },
  { kind: "readWrite", permits: readWriteCapacity, capacity: readWriteCapacity }
]

const claimOf = (id: string, key: string, kind: typeof kinds[number]): Claim => ({
  id: id.padEnd(22, "_"),
  key,
  prefix: "",
  ...kind,
  ttl: Duration.seconds(1_000),
  guardGap: Duration.seconds(100),
  holder: `holder of ${id}`
})

type Response = ITxnResponse["responses"][number] & { readonly response_txn?: object }

/** A transaction's answer as far as the store reads it. */
const essence = (answer: ITxnResponse | Error): unknown =>
  answer instanceof Error ? /lease not found/.test(answer.message) && "lease gone" : {
    revision: Number(answer.header.revision),
    succeeded: answer.succeeded === true,
    responses: (answer.responses as ReadonlyArray<Response>).map((
      { response_delete_range, response_range, response_txn }
    ): unknown =>
      response_txn
        ? essence({ ...response_txn, header: answer.header } as ITxnResponse)
        : response_range
        ? {
          count: Number(response_range.count),
          kvs: response_range.kvs.map(({ create_revision, key, value, version }) => [
            key.toString(),
            value.toString(),
            Number(create_revision),
            Number(version)
          ])
        }
        : response_delete_range
        ? Number(response_delete_range.deleted)
        : "put"
    )
  }

/** What a watch was told: of each deletion the key and the revision; and that it is over. */
const told = ({ canceled, created, events, watch_id }: IWatchResponse): ReadonlyArray<string> => [
  ...created ? [`${watch_id} begins`] : [],
  ...canceled ? [`${watch_id} is over`] : [],
  ...events.map(({ kv, type }) => `${watch_id}: ${String(type)} ${kv.key.toString()} at ${kv.mod_revision}`)
]

const walk = (port: Port, leastTtl: number, seed: number, length: number) =>
  Effect.gen(function*() {
    const random = Random.of(seed)
    const watchesPuts = Random.of(seed, 1)
    const timeline = new Timeline()
    const serverLog = new ServerLog(timeline, Plans.make(1, "etcd"), new Checker(timeline, new Set()))
    const model = new EtcdServer(timeline, serverLog, {}, () => 0, leastTtl)
    // The server has a past, and other revisions than a new one.
    const start = Number((yield* port.txn({})).value.header.revision)
    model.keys.revision = start

    const ours: Array<string> = []
    const theirs: Array<string> = []
    const watcher: Watcher = {
      watches: new Map(),
      named: 0,
      beginning: new Set(),
      refusal: () => undefined,
      tell: (response) => void ours.push(...told(response as IWatchResponse)),
      end: () => {}
    }
    model.watching.watchers.add(watcher)
    const stream = yield* port.watch({
      onResponse: (response) => void theirs.push(...told(response)),
      onEnd: () => {}
    })
    yield* Effect.addFinalizer(() => Effect.sync(stream.close))

    const log: Array<string> = []
    const same = (what: string, our: unknown, their: unknown) => {
      log.push(what)
      assert.deepStrictEqual(our, their, `seed ${seed}, step ${log.length}: ${log.slice(-8).join("; ")}`)
    }
    const txn = (what: string, request: ITxnRequest) =>
      Effect.gen(function*() {
        const their = yield* Effect.result(port.txn(request))
        const our = model.txn(request)
        const answer = their._tag === "Success" ? their.success.value : their.failure.cause
        same(what, essence(our), essence(answer))
      })

    const epoch = epochKey(`lock-${seed}`)
    const keys = [`lock-${seed}`, `lock-${seed}/with a slash`, `lock-${seed}%`]
    let born = 0
    let watches = 0
    const claims: Array<{ readonly claim: Claim; readonly created: () => bigint }> = []
    const leases: Array<string> = []
    const someLease = () => random.chance(0.95) && leases.length > 0 ? random.pick(leases) : "999"
    const someTerms = () => ({ id: someLease(), ttl: 1_000_000 })
    const someClaim = () => {
      if (claims.length > 0 && random.chance(0.7)) return random.pick(claims.slice(-8))
      const claim = claimOf(`c${seed}-${born++}`, random.pick(keys), random.pick(kinds))
      const { keyBytes } = claimKeys(lockKeys(claim.key, ""), claim, claim.id)
      const one = { claim, created: () => BigInt(model.keys.get(keyBytes.toString())?.created ?? 1) }
      claims.push(one)
      return one
    }

    /** What a process may know of it. */
    const someEpoch = (): Transactions.Epoch => {
      const text = model.keys.get(epoch.toString())?.value.toString()
      const base = BigInt(text ?? 0)
      if (random.chance(0.8)) return { key: epoch, text, base }
      return random.chance(0.5)
        ? { key: epoch, text: undefined, base: 0n }
        : { key: epoch, text: String(base + 1n), base: base + 1n }
    }

    const someKnown = ({ keyBytes }: Transactions.PlaceInQueue, created: bigint): SharedTransactions.Known => ({
      upTo: BigInt(random.between(0, model.keys.revision)),
      last: { key: keyBytes.toString(), created }
    })

    const entering = (place: Transactions.PlaceInQueue): Operation => {
      const [lease, epoch] = [someTerms(), someEpoch()]
      if (place.claim.kind === "mutex") {
        return (random.chance(0.3) ? Transactions.enterIfEmpty : Transactions.enter)(place, lease, epoch)
      }
      const another = claims.find(({ claim: { key } }) => key === place.claim.key)
      if (another !== undefined && random.chance(0.4)) {
        const its = { ...place, ...claimKeys(place.keys, another.claim, another.claim.id) }
        return random.chance(0.5)
          ? SharedTransactions.enterBehind(place, lease, epoch, its, another.created())
          : SharedTransactions.enterKnowing(place, lease, epoch, someKnown(its, another.created()))
      }
      if (random.chance(0.5)) return SharedTransactions.enter(place, lease, epoch)
      const known = random.chance(0.5) ? undefined : someKnown(place, 1n)
      return SharedTransactions.enterIfInside(place, lease, epoch, known)
    }

    const looking = (place: Transactions.PlaceInQueue, created: bigint): Operation => {
      if (place.claim.kind === "mutex") return Transactions.look(place, created)
      return random.pick([
        () => SharedTransactions.look(place, created, random.chance(0.5) ? created : undefined),
        () => SharedTransactions.lookOn(place, someKnown(place, created)),
        () => SharedTransactions.check(place, created, random.chance(0.5)),
        () => SharedTransactions.findHead(place),
        () => SharedTransactions.readValues(place, [place.keyBytes.toString()]),
        () => SharedTransactions.shrink(place, created, 1, someTerms(), 0n)
      ])()
    }

    for (let step = 0; step < length; step++) {
      const dice = random.between(0, 99)
      const { claim, created } = someClaim()
      const its = lockKeys(claim.key, "")
      const place = { claim, keys: its, ...claimKeys(its, claim, claim.id) }
      if (dice < 8 || leases.length === 0) {
        const id = String(seed * 10_000 + step)
        const seconds = random.pick([1, 2, 1_000])
        const their = yield* port.grant(id, seconds)
        same(`grant ${seconds}`, model.grant(id, seconds), their.value)
        // A short one would be over in the middle of the walk.
        if (seconds > 2) leases.push(id)
      } else if (dice < 40) {
        yield* txn(`enter ${claim.id}`, entering(place).request)
      } else if (dice < 43) {
        const from = someEpoch()
        yield* txn(`raise from ${from.text}`, Transactions.raise(from, from.base + BigInt(random.between(1, 3))))
      } else if (dice < 55) {
        yield* txn(`look ${claim.id}`, looking(place, created()).request)
      } else if (dice < 78) {
        const known = random.chance(0.7) ? created() : undefined
        const tombstone = random.chance(0.3) ? someLease() : undefined
        yield* txn(`leave ${claim.id}`, Transactions.withdraw(place, known, tombstone, random.chance(0.5)).request)
      } else if (dice < 81) {
        yield* txn("remove", Transactions.remove([place.keyBytes.toString(), its.tombstone(claim.id).toString()]))
      } else if (dice < 86) {
        const id = someLease()
        same(`keepAlive ${id}`, model.keepAlive(id), (yield* port.keepAlive(id)).value)
      } else if (dice < 91) {
        const id = someLease()
        const state = model.inspect(id)
        const their = (yield* port.inspect(id)).value
        same(`inspect ${id}`, [state.ttl < 0, state.keys.toSorted()], [their.ttl < 0, their.keys.toSorted()])
      } else if (dice < 93) {
        const id = random.chance(0.5) ? someLease() : "998"
        const their = yield* Effect.result(port.revoke(id))
        same(`revoke ${id}`, model.revoke(id) === undefined, their._tag === "Success")
        if (leases.includes(id)) leases.splice(leases.indexOf(id), 1)
      } else {
        const range = random.chance(0.4)
        // Now, or a little in the past.
        const from = model.keys.revision + 1 - random.pick([0, 0, 0, 3])
        const request = {
          create_request: {
            key: range ? its.folder : place.keyBytes,
            ...(range && { range_end: its.folderEnd }),
            ...(random.chance(0.7) && { start_revision: String(Math.max(start + 1, from)) }),
            filters: [watchesPuts.chance(0.4) ? "Nodelete" : "Noput"]
          }
        }
        model.watching.request(watcher, request as never)
        stream.send(request as never)
        // So that both begin at the same revision.
        const begins = `${watches++} begins`
        yield* until(() => theirs.includes(begins))
      }
      timeline.pass(timeline.now + millis(1))
    }
    timeline.pass(timeline.now + millis(200))
    yield* until(() => theirs.length >= ours.length)
    assert.deepStrictEqual(theirs.toSorted(), ours.toSorted(), `seed ${seed}: what the watches were told`)
    return { steps: log.length, told: ours.length }
  }).pipe(Effect.scoped)

const until = (holds: () => boolean): Effect.Effect<void> =>
  Effect.suspend(() => holds() ? Effect.void : Effect.andThen(Effect.sleep("2 millis"), until(holds))).pipe(
    Effect.timeoutOption("5 seconds"),
    Effect.asVoid
  )

describe("the model of etcd", () => {
  it.live("says what a real one says", () =>
    Effect.gen(function*() {
      const server = yield* Effect.acquireRelease(
        Effect.promise(() => startEtcd()),
        (server) => Effect.promise(() => server.stop())
      )
      const port = yield* open({ target: { hosts: server.url }, connectTimeout: 10_000, operationTimeout: 5_000 })
      const leastTtl = (yield* port.grant("776", 1)).value
      let steps = 0
      let events = 0
      for (let seed = 1; seed <= 8; seed++) {
        const walked = yield* walk(port, leastTtl, seed, 120)
        steps += walked.steps
        events += walked.told
      }
      console.log(`walks on etcd: ${steps} steps, ${events} words of watches`)
      assert.isAbove(events, 50)

      // A lease ends by itself, no sooner than its time and at most as much later as the model says.
      yield* port.grant("777", 1)
      const started = performance.now()
      yield* port.txn({
        success: [{ request_put: { key: Buffer.from("short/one"), value: Buffer.alloc(0), lease: "777" } }]
      })
      yield* until(() => performance.now() > started + 1_000 * leastTtl - 100)
      assert.isAbove((yield* port.inspect("777")).value.keys.length, 0)
      yield* until(() => performance.now() > started + 1_000 * leastTtl + 1_200)
      assert.strictEqual((yield* port.inspect("777")).value.ttl, -1)
      assert.strictEqual((yield* port.keepAlive("777")).value, 0)
    }).pipe(Effect.scoped), 120_000)
})

type Server = Awaited<ReturnType<typeof startEtcd>>

const stopped = <A extends { readonly stop: () => Promise<void> }>(start: () => Promise<A>) =>
  Effect.acquireRelease(Effect.promise(start), (one) => Effect.promise(() => one.stop()))

const key = Buffer.from("elsewhere")
const value = Buffer.from("x")

/** What a server is asked, for each matter that may be refused. */
const requests: ReadonlyArray<readonly [CallKind, string, string, object]> = [
  ["nothing", "KV", "txn", {}],
  ["read", "KV", "txn", { success: [{ request_range: { key } }] }],
  ["delete", "KV", "txn", { success: [{ request_delete_range: { key } }] }],
  ["put", "KV", "txn", { success: [{ request_put: { key, value } }] }],
  ["grant", "Lease", "leaseGrant", { ID: "5", TTL: 60 }],
  ["inspect", "Lease", "leaseTimeToLive", { ID: "4" }],
  ["revoke", "Lease", "leaseRevoke", { ID: "4" }]
]

/** Asks for each of them, and for a keep-alive. */
const refusedBy = async (host: Host): Promise<ReadonlyMap<CallKind, string>> => {
  const refused = new Map<CallKind, string>()
  const options = () => ({ deadline: Date.now() + 5_000 })
  const ask = (kind: CallKind, call: Promise<unknown>) =>
    call.then(() => {}, (error: Error) => void refused.set(kind, error.message))
  await ask(
    "keepAlive",
    host.exchange("Lease", "leaseKeepAlive", options(), (stream) =>
      new Promise((resolve, reject) => {
        stream.on("data", resolve)
        stream.on("error", reject)
        stream.write({ ID: "4" })
      }))
  )
  for (const [kind, service, method, request] of requests) {
    await ask(kind, host.call(service, method, request, options()))
  }
  return refused
}

/** What is said to who asks for a watch; a stream may end with an error instead. */
const watchRefusedBy = async (host: Host): Promise<string> => {
  const stream = await host.open("Watch", "watch")
  try {
    return await new Promise((resolve) => {
      stream.on("data", ({ cancel_reason }: IWatchResponse) => resolve(cancel_reason))
      stream.on("error", (error) => resolve((error as Error).message))
      stream.write({ create_request: { key } })
    })
  } finally {
    stream.cancel()
  }
}

const hostOf = (server: Pick<Server, "url">, auth?: { readonly username: string; readonly password: string }) =>
  connect({ hosts: server.url, ...(auth && { auth }) }, server.url)

/** All that the model's refusal is of, in its words, but for a watch. */
const expected = (refusal: Refusal): ReadonlyMap<CallKind, string> =>
  new Map(
    [...requests.map(([kind]) => kind), "keepAlive" as const].filter((kind) => refusal.of.has(kind)).map((
      kind
    ) => [kind, refusal.text])
  )

const same = (our: ReadonlyMap<CallKind, string>, their: ReadonlyMap<CallKind, string>): void =>
  assert.deepStrictEqual(Object.fromEntries(our), Object.fromEntries(their))

describe("the model's refusals are those of a real etcd", () => {
  it.live("without space", () =>
    Effect.gen(function*() {
      const server = yield* stopped(() => startEtcd(["--quota-backend-bytes=4000000"]))
      const host = yield* hostOf(server)
      yield* Effect.promise(async () => {
        await host.call("Lease", "leaseGrant", { ID: "4", TTL: 60 }, { deadline: Date.now() + 5_000 })
        const put = (nth: number) => ({
          success: [{ request_put: { key: Buffer.from(`filler-${nth}`), value: Buffer.alloc(500_000) } }]
        })
        for (let nth = 0; !(await etcdctl(server.url, "alarm", "list")).includes("NOSPACE"); nth++) {
          await host.call("KV", "txn", put(nth), { deadline: Date.now() + 5_000 }).catch(() => {})
        }
        same(expected(noSpace), await refusedBy(host))
      })
    }).pipe(Effect.scoped), 60_000)

  it.live("of a learner", () =>
    Effect.gen(function*() {
      const cluster = yield* stopped(() => startEtcdCluster(1, ["--strict-reconfig-check=false"]))
      const learner = yield* stopped(() => addLearner(cluster))
      const host = yield* hostOf(learner)
      yield* Effect.promise(async () => {
        same(expected(ofLearner), await refusedBy(host))
        assert.strictEqual(await watchRefusedBy(host), ofLearner.text)
      })
    }).pipe(Effect.scoped), 60_000)

  it.live("of what a user may not do", () =>
    Effect.gen(function*() {
      const server = yield* stopped(() => startEtcd())
      yield* Effect.promise(() => enableAuth(server.url))
      const host = yield* hostOf(server, { username: "app", password: "right" })
      const refusal = denied("put", "delete", "read")
      yield* Effect.promise(async () => {
        await host.call("Lease", "leaseGrant", { ID: "4", TTL: 60 }, { deadline: Date.now() + 5_000 })
        same(expected(refusal), await refusedBy(host))
        assert.strictEqual(await watchRefusedBy(host), refusal.cancelReason)
      })
    }).pipe(Effect.scoped), 60_000)
})
