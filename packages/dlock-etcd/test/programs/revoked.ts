/**
 * Holds locks by its store, one after another on each of some keys, as the core would. When it is asked to leave a lock it either
 * obeys, after the grace, or ignores that and holds on for as long as it may believe in the lock. Arguments: url, the keys as JSON,
 * `obeys` or `ignores`, the ttl in milliseconds.
 */
import { recordLag } from "dlock-testing"
import { onMessage, report } from "dlock-testing/report"
import { Duration, Effect, type Layer, Stream } from "effect"
import { LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import type { Granted, Renewal } from "effect-dlock/LockStore"
import { permitsOf } from "../claim.ts"

const [hosts, json, manner, ttl] = process.argv.slice(2) as [string, string, "obeys" | "ignores", string]
const now = () => Number(process.hrtime.bigint()) / 1_000_000
const lag = recordLag()
const toldOf = new Map<string, { readonly leave: () => void; readonly name: string }>()

const hold = (store: LockStore["Service"], key: string) =>
  Effect.gen(function*() {
    const claim = permitsOf(1, 1, { key, kind: "mutex", ttl: Number(ttl), holder: manner })
    const answer = yield* store.request(claim, "queue")
    const granted = answer._tag === "Queued" ? yield* answer.granted : answer
    if (granted._tag !== "Granted") return void (yield* store.withdraw(claim))
    const token = String(granted.fencingToken)
    const enter = now()
    let confirmedAt = granted.confirmedAt
    const deadline = () => Number(confirmedAt) / 1_000_000 + Duration.toMillis(granted.ttl)
    report({ key, token, enter, manner })
    let mayStay = true
    const left = new Promise<void>((resolve) => toldOf.set(claim.id, { name: `${key} ${token}`, leave: resolve }))
    const beats = Effect.gen(function*() {
      for (let beat = deadline() - Duration.toMillis(granted.ttl) * 2 / 3; mayStay; beat = now() + Number(ttl) / 3) {
        yield* Effect.sleep(Math.max(1, Math.min(beat, deadline()) - now()))
        if (now() >= deadline()) return
        const [renewal] = (yield* store.renew([{ claim, fencingToken: granted.fencingToken }])) as [Renewal]
        if (renewal._tag === "Confirmed") confirmedAt = renewal.confirmedAt
        // What a deaf program does: nothing. Its belief runs out.
        else if (renewal._tag !== "Unknown") {
          yield* Effect.sleep(Math.max(0, deadline() - now()))
          return
        }
      }
    })
    yield* manner === "obeys" ? Effect.raceFirst(beats, Effect.promise(() => left)) : beats
    mayStay = false
    toldOf.delete(claim.id)
    // A program that was frozen has ended when its belief did.
    report({
      key,
      token,
      enter,
      exit: Math.min(now(), deadline()),
      confirmedAt: Number(confirmedAt) / 1_000_000,
      lease: leaseOf(granted)
    })
    // Whoever ignores the request does not release either: the store does it for him.
    if (manner === "obeys") yield* Effect.ignore(store.withdraw(claim))
    else yield* Effect.sleep(Math.max(0, Number(confirmedAt) / 1_000_000 + leaseOf(granted) + 500 - now()))
  }).pipe(Effect.catch((error) => Effect.delay(Effect.sync(() => report({ failed: String(error) })), 200)))

/** How many milliseconds the server keeps the claim after a confirmation. */
const leaseOf = ({ ttl: granted }: Granted): number => Duration.toMillis(granted) + Number(ttl) / 9

Effect.runFork(
  Effect.gen(function*() {
    const store = yield* LockStore
    yield* Effect.forkScoped(Stream.runForEach(store.losses, (news) =>
      Effect.sync(() => {
        const told = toldOf.get(news.id)
        if (!("revocation" in news) || told === undefined) return
        report({ told: told.name, at: now(), lag: lag.max() })
        setTimeout(told.leave, Duration.toMillis(news.revocation.grace))
      })))
    // Its watch begins with the first lock that it holds for a moment.
    const warm = permitsOf(1, 1, { key: `warm ${process.pid}`, kind: "mutex", ttl: Number(ttl) })
    yield* store.request(warm, "queue")
    yield* Effect.sleep("1 second")
    yield* store.withdraw(warm)
    report({ started: now() })
    yield* Effect.forEach(JSON.parse(json) as ReadonlyArray<string>, (key) => Effect.forever(hold(store, key)), {
      concurrency: "unbounded"
    })
  }).pipe(Effect.scoped, Effect.provide(EtcdLockStore.layer({ hosts }) as Layer.Layer<LockStore>))
)
onMessage(() => process.exit(0))
