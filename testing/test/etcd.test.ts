import { Etcd3, type IOptions, type IWatchResponse } from "etcd3"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { expect, onTestFinished, test } from "vitest"
import {
  addLearner,
  enableAuth,
  etcdctl,
  jwtTokens,
  simpleTokens,
  startEtcd,
  startEtcdCluster,
  startGrpcProxy
} from "../src/index.ts"

const connect = (options: IOptions): Etcd3 => {
  const client = new Etcd3(options)
  onTestFinished(() => client.close())
  return client
}

const stopped = async <A extends { readonly stop: () => Promise<void> }>(starting: Promise<A>): Promise<A> => {
  const server = await starting
  onTestFinished(() => server.stop())
  return server
}

const writes = (client: Etcd3, key: string) => client.put(key).value("v").exec().then(() => "done", String)

test.each([["simple", simpleTokens(5)], ["signed", jwtTokens()]])(
  "with %s tokens, a user may use the keys of locks, and nobody else may do anything",
  async (_, args) => {
    const { url } = await stopped(startEtcd(args))
    await enableAuth(url, { users: { app: "right", other: "also" } })
    for (const [username, password] of [["app", "right"], ["other", "also"]] as const) {
      const client = connect({ hosts: url, auth: { username, password } })
      expect(await writes(client, "dlock:k")).toBe("done")
      expect(await writes(client, "k")).toContain("permission denied")
    }
    expect(await writes(connect({ hosts: url }), "dlock:k")).toContain("user name is empty")
    expect(await writes(connect({ hosts: url, auth: { username: "app", password: "wrong" } }), "dlock:k"))
      .toContain("authentication failed")
    expect(await etcdctl(url, "--user=root:toor", "user", "list")).toBe("app\nother\nroot\n")
  }
)

test("a signed token does not outlive a change of users", async () => {
  const { url } = await stopped(startEtcd(jwtTokens(60)))
  await enableAuth(url)
  const client = connect({ hosts: url, auth: { username: "app", password: "right" } })
  expect(await writes(client, "dlock:k")).toBe("done")
  await etcdctl(url, "--user=root:toor", "user", "add", "other:also")
  expect(await writes(client, "dlock:k")).toContain("3 INVALID_ARGUMENT: etcdserver: revision of auth store is old")
})

test("a simple token ends after its time without use, and a watch that is then made is cancelled", async () => {
  const server = await stopped(startEtcd([...simpleTokens(1), "--log-level=debug"]))
  await enableAuth(server.url)
  const client = connect({ hosts: server.url, auth: { username: "app", password: "right" } })
  expect(await writes(client, "dlock:k")).toBe("done")
  // Its use would prolong it, so its end is read from what the member writes down.
  const log = () => Fs.readFileSync(Path.join(server.dir, "server.log"), "utf8")
  await expect.poll(log, { timeout: 10_000 }).toMatch(/deleted a simple token.*"app"/)
  const watch = await client.watchClient.watch()
  const answer = new Promise<IWatchResponse>((resolve) => watch.on("data", resolve))
  watch.on("error", () => {})
  watch.write({ create_request: { key: Buffer.from("dlock:k") } })
  expect(await answer).toMatchObject({
    created: true,
    canceled: true,
    cancel_reason: expect.stringContaining("etcdserver: invalid auth token")
  })
  watch.cancel()
})

test("a proxy of etcd's own passes on what clients write and read", async () => {
  const cluster = await stopped(startEtcdCluster(3))
  const proxy = await stopped(startGrpcProxy(cluster.servers.map(({ url }) => url)))
  const [client, direct] = [connect({ hosts: proxy.url }), connect({ hosts: cluster.servers[0]!.url })]
  expect(await direct.getAll().keys()).toEqual([])
  await client.put("k").value("v")
  expect(await direct.get("k").string()).toBe("v")
  expect(await client.get("k").string()).toBe("v")
  await proxy.stop()
  expect(await writes(client, "k")).toContain("UNAVAILABLE")
  expect(await writes(direct, "k")).toBe("done")
})

test("a learner takes in what the others write, and stays a learner", async () => {
  const cluster = await stopped(startEtcdCluster(3))
  const direct = connect({ hosts: cluster.servers[0]!.url })
  await direct.put("before").value("v")
  const learner = await stopped(addLearner(cluster))
  const client = connect({ hosts: learner.url })
  await direct.put("after").value("v")
  await expect.poll(() => client.getAll().serializable(true).keys()).toEqual(["after", "before"])
  expect(await writes(client, "k")).toContain("14 UNAVAILABLE: etcdserver: rpc not supported for learner")
  await learner.restart()
  const metrics = await (await fetch(`${learner.url}/metrics`)).text()
  expect(metrics).toMatch(/^etcd_server_is_learner 1$/m)
  expect(await writes(direct, "k")).toBe("done")
})

test("a proxy of etcd's own is ready in front of a cluster that asks who its clients are", async () => {
  const { url } = await stopped(startEtcd(simpleTokens(5)))
  await enableAuth(url)
  const proxy = await stopped(startGrpcProxy([url]))
  const client = connect({ hosts: proxy.url, auth: { username: "app", password: "right" } })
  expect(await writes(client, "dlock:k")).toBe("done")
})
