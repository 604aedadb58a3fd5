import { Etcd3, type IWatchResponse } from "etcd3"
import * as Http2 from "node:http2"
import type * as Net from "node:net"
import { afterEach, beforeEach, expect, test } from "vitest"
import { etcdUrl } from "../src/context.ts"
import { type MemberProxy, startEtcd, startMemberProxy, startProxy } from "../src/index.ts"

let proxy: MemberProxy
let client: Etcd3

beforeEach(async () => {
  proxy = await startMemberProxy(Number(new URL(etcdUrl()).port))
  client = connect(proxy)
})

afterEach(async () => {
  client.close()
  await proxy.stop()
})

/** A client that repeats nothing by itself. */
const connect = ({ url }: { readonly url: string }, grpcOptions = {}): Etcd3 => {
  const once = { execute: async <A>(call: (context: never) => A) => await call({} as never) } as never
  return new Etcd3({ hosts: url, faultHandling: { host: () => once, global: once }, grpcOptions })
}

const put = (key: string) => client.put(key).value("v").exec()
const txn = () => client.if("member-proxy/txn", "Create", "==", 0).then(client.get("member-proxy/txn")).commit()

/** A stream of watches with what has come by it so far. */
const watching = async (key: string, by = client) => {
  const stream = await by.watchClient.watch()
  const responses: Array<IWatchResponse> = []
  const ends: Array<string> = []
  stream.on("data", (response) => responses.push(response))
  stream.on("error", (error) => ends.push(error.message))
  stream.write({ create_request: { key: Buffer.from(key) } })
  await expect.poll(() => responses.map(({ created }) => created)).toEqual([true])
  return { stream, ends, events: () => responses.flatMap(({ events }) => events.map(({ kv }) => kv.key.toString())) }
}

/** A gauge or a counter of the member. */
const metric = async (name: string, url = etcdUrl()): Promise<number> => {
  const text = await (await fetch(`${url}/metrics`)).text()
  return Number(text.split("\n").find((line) => line.startsWith(`${name} `))?.split(" ")[1])
}

test("passes calls on, with their answers, errors and large values", async () => {
  const value = "v".repeat(1_000_000)
  await client.put("member-proxy/large").value(value)
  expect(await client.get("member-proxy/large").string()).toBe(value)
  await expect(client.leaseClient.leaseRevoke({ ID: "12345" })).rejects.toThrow(
    "5 NOT_FOUND: etcdserver: requested lease not found"
  )
  expect(proxy.count(/KV\/Put$/)).toBe(1)
  expect(proxy.count(/KV/)).toBe(2)
  expect(proxy.count(/^\/etcdserverpb\.Lease\/LeaseRevoke$/)).toBe(1)
  await Promise.all(Array.from({ length: 300 }, (_, n) => put(`member-proxy/many/${n}`)))
  expect(await client.getAll().prefix("member-proxy/many/").count()).toBe(300)
})

test("passes a watch on for as long as it is open, and its cancellation", async () => {
  const open = await metric("etcd_debugging_mvcc_watch_stream_total")
  const watch = await watching("member-proxy/watched")
  for (let n = 1; n <= 3; n++) {
    await put("member-proxy/watched")
    await expect.poll(watch.events).toHaveLength(n)
  }
  expect(await metric("etcd_debugging_mvcc_watch_stream_total")).toBe(open + 1)
  watch.stream.cancel()
  await expect.poll(() => metric("etcd_debugging_mvcc_watch_stream_total")).toBe(open)
  expect(watch.ends).toEqual([expect.stringContaining("1 CANCELLED")])
  expect(proxy.count(/Watch\/Watch$/)).toBe(1)
})

test("passes a client's end of its side on, and answers that come after it", async () => {
  const { ID } = await client.leaseClient.leaseGrant({ TTL: 60 })
  const stream = await client.leaseClient.leaseKeepAlive()
  const seen: Array<string> = []
  stream.on("data", ({ TTL }) => seen.push(TTL))
  stream.on("error", (error) => seen.push(error.message))
  stream.on("end", () => seen.push("end"))
  stream.write({ ID })
  await expect.poll(() => seen).toEqual(["60"])
  stream.write({ ID })
  stream.end()
  await expect.poll(() => seen).toEqual(["60", "60", "end"])
  await client.leaseClient.leaseRevoke({ ID })
})

test("a client that goes away without a word takes its streams with it", async () => {
  const open = await metric("etcd_debugging_mvcc_watch_stream_total")
  const link = await startProxy(proxy.port, "http")
  const other = connect(link)
  try {
    const watch = await watching("member-proxy/gone", other)
    expect(await metric("etcd_debugging_mvcc_watch_stream_total")).toBe(open + 1)
    link.reset()
    await expect.poll(() => watch.ends).toEqual([expect.stringContaining("14 UNAVAILABLE")])
    await expect.poll(() => metric("etcd_debugging_mvcc_watch_stream_total")).toBe(open)
  } finally {
    other.close()
    await link.stop()
  }
})

test("answers what it was told to refuse, passes on the rest, and all of it once it is healed", async () => {
  const [before, watch] = [await metric("etcd_server_proposals_applied_total"), await watching("member-proxy/refused")]
  proxy.refuse({ method: /KV\/Txn$/, code: 8, message: "etcdserver: too many requests" })
  await expect(txn()).rejects.toThrow("8 RESOURCE_EXHAUSTED: etcdserver: too many requests")
  proxy.refuse({ method: /KV\/Txn$/, code: 15, message: "etcdserver: corrupt cluster" })
  await expect(txn()).rejects.toThrow("15 DATA_LOSS: etcdserver: corrupt cluster")
  expect(await metric("etcd_server_proposals_applied_total")).toBe(before)
  await put("member-proxy/refused")
  proxy.refuse({ code: 14, message: "100 % down: ñ" })
  await expect(put("member-proxy/refused")).rejects.toThrow("14 UNAVAILABLE: 100 % down: ñ")
  const refused = await client.watchClient.watch()
  const error = new Promise<Error>((resolve) => refused.on("error", resolve))
  refused.on("data", () => {})
  refused.write({ create_request: { key: Buffer.from("member-proxy/refused") } })
  expect((await error).message).toBe("14 UNAVAILABLE: 100 % down: ñ")
  expect(watch.ends).toEqual([])
  proxy.heal()
  await txn()
  await put("member-proxy/refused")
  await expect.poll(watch.events).toHaveLength(2)
  watch.stream.cancel()
  expect(proxy.count(/KV\/Txn$/)).toBe(3)
  expect(proxy.count(/Watch\/Watch$/)).toBe(2)
})

test("answers the pings of a client, so that a quiet watch stays open", async () => {
  const pinging = connect(proxy, { "grpc.keepalive_time_ms": 50, "grpc.keepalive_timeout_ms": 500 })
  const watch = await watching("member-proxy/quiet", pinging)
  const until = performance.now() + 1_000
  await expect.poll(() => performance.now(), { timeout: 5_000 }).toBeGreaterThan(until)
  await put("member-proxy/quiet")
  await expect.poll(watch.events).toEqual(["member-proxy/quiet"])
  expect(watch.ends).toEqual([])
  watch.stream.cancel()
  pinging.close()
})

test("a member that dies breaks the client's connection, and is found again when it is back", async () => {
  const member = await startEtcd()
  const own = await startMemberProxy(member.port)
  const other = connect(own)
  try {
    const watch = await watching("k", other)
    member.signal("SIGKILL")
    await expect.poll(() => watch.ends).toEqual([expect.stringContaining("14 UNAVAILABLE")])
    await expect(other.put("k").value("v").exec()).rejects.toThrow("14 UNAVAILABLE")
    await member.restart()
    await expect.poll(() => other.put("k").value("v").exec().then(() => "done", String), { timeout: 5_000 }).toBe(
      "done"
    )
  } finally {
    other.close()
    await own.stop()
    await member.stop()
  }
})

test("an answer that breaks off is passed on as one that broke off, on a connection that lives on", async () => {
  let breakOff = () => {}
  const broken = Http2.createServer().on("stream", (stream) => {
    stream.on("error", () => {})
    stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true })
    stream.write("half")
    breakOff = () => stream.close(Http2.constants.NGHTTP2_INTERNAL_ERROR)
  })
  await new Promise<void>((resolve) => broken.listen(0, "127.0.0.1", resolve))
  const own = await startMemberProxy((broken.address() as Net.AddressInfo).port)
  const session = Http2.connect(own.url)
  session.on("error", () => {})
  try {
    for (let n = 0; n < 2; n++) {
      const seen: Array<string> = []
      const call = session.request({ ":method": "POST", ":path": "/any" })
      call.on("response", (headers) => seen.push(`${headers[":status"]}`))
      call.on("data", (chunk: Buffer) => seen.push(chunk.toString()))
      call.on("trailers", () => seen.push("trailers"))
      call.on("error", () => {})
      const closed = new Promise((resolve) => call.on("close", resolve))
      await expect.poll(() => seen).toEqual(["200", "half"])
      breakOff()
      await closed
      expect([seen, call.rstCode]).toEqual([["200", "half"], Http2.constants.NGHTTP2_INTERNAL_ERROR])
    }
  } finally {
    session.destroy()
    await own.stop()
    broken.close()
  }
})
