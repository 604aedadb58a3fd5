import { afterAll, assert, beforeAll, describe, it } from "@effect/vitest"
import {
  addLearner,
  enableAuth,
  type Group,
  type MemberProxy,
  type Server,
  simpleTokens,
  startEtcd,
  startEtcdCluster,
  startGrpcProxy,
  startMemberProxy
} from "dlock-testing"
import { Context, Effect, Layer } from "effect"
import { LockStore } from "effect-dlock"
import { EtcdLockStore } from "effect-dlock-etcd"
import { Conformance } from "effect-dlock/testing"

/** The store's promises, on etcd as people run it. */
const suite = (what: string, options: () => EtcdLockStore.EtcdLockStoreOptions, ttl: "1800 millis" | "3800 millis") =>
  describe.concurrent(what, () => {
    const client = Effect.map(
      Effect.suspend(() => Layer.build(Layer.fresh(EtcdLockStore.layer(options())))),
      (context) => Context.get(context, LockStore)
    )
    const cases = Conformance.cases({
      client,
      advance: Effect.sleep,
      nesting: false,
      ttl,
      lateness: "2 seconds",
      rounds: 20
    })
    for (const { name, run } of cases) it.live(name, () => Effect.scoped(run), 60_000)
    it("is told what to do", () => assert.isAbove(cases.length, 10))
  })

const started: Array<{ readonly stop: () => Promise<void> }> = []
const start = async <A extends { readonly stop: () => Promise<void> }>(starting: Promise<A>): Promise<A> => {
  const one = await starting
  started.push(one)
  return one
}

let guarded: Server
let proxy: Server
let cluster: Group
let learner: Server
let refuser: MemberProxy

beforeAll(async () => {
  const guardedStarts = async () => {
    guarded = await start(startEtcd(simpleTokens(2)))
    await enableAuth(guarded.url)
  }
  const proxyStarts = async () => {
    const { url } = await start(startEtcd())
    proxy = await start(startGrpcProxy([url]))
  }
  const clusterStarts = async () => {
    cluster = await start(startEtcdCluster(3, ["--strict-reconfig-check=false"]))
    learner = await start(addLearner(cluster))
    refuser = await start(startMemberProxy(cluster.servers[0]!.port))
    refuser.refuse({ code: 8, message: "etcdserver: too many requests" })
  }
  await Promise.all([guardedStarts(), proxyStarts(), clusterStarts()])
}, 60_000)

afterAll(async () => {
  await Promise.all(started.map((one) => one.stop()))
})

suite(
  "an etcd that asks who one is, with tokens of two seconds",
  // As root: the keys of the cases are anywhere.
  () => ({ hosts: guarded.url, username: "root", password: "toor" }),
  "1800 millis"
)

// A lease of two seconds is short there: the proxy keeps leases alive twice a second, whenever it is asked.
suite("an etcd behind its own proxy", () => ({ hosts: proxy.url }), "3800 millis")

// The limit of a call, a third of the ttl, is shared by the hosts.
suite(
  "three members and a learner, which is asked first",
  () => ({ hosts: [learner.url, ...cluster.servers.map(({ url }) => url)] }),
  "3800 millis"
)

suite(
  "three members, of which the first has too much to do",
  () => ({ hosts: [refuser.url, ...cluster.servers.slice(1).map(({ url }) => url)] }),
  "1800 millis"
)
