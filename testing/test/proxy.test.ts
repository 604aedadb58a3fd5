import * as Net from "node:net"
import { setTimeout as sleep } from "node:timers/promises"
import { afterEach, beforeEach, expect, test } from "vitest"
import { type Proxy, startProxy } from "../src/index.ts"

let echo: Net.Server
let proxy: Proxy
const atServer: Array<string> = []

beforeEach(async () => {
  atServer.length = 0
  echo = Net.createServer((socket) => {
    socket.on("error", () => atServer.push("<error>"))
    socket.on("end", () => atServer.push("<end>"))
    socket.on("data", (chunk) => {
      atServer.push(chunk.toString())
      socket.write(chunk)
    })
  })
  await new Promise<void>((resolve) => echo.listen(0, "127.0.0.1", resolve))
  proxy = await startProxy((echo.address() as Net.AddressInfo).port)
})

afterEach(async () => {
  await proxy.stop()
  echo.close()
})

const connect = async () => {
  const socket = Net.connect(proxy.port, "127.0.0.1")
  const events: Array<string> = []
  socket.on("data", (chunk) => events.push(chunk.toString()))
  socket.on("error", (error: NodeJS.ErrnoException) => events.push(`<${error.code}>`))
  socket.on("end", () => events.push("<end>"))
  await new Promise<void>((resolve) => socket.once("connect", resolve).once("error", () => resolve()))
  return { socket, events }
}

const until = async (fits: () => boolean): Promise<void> => {
  for (let n = 0; !fits(); n++) {
    if (n === 500) throw new Error("it did not happen within five seconds")
    await sleep(10)
  }
}

test("lets the server have late what a connection that was cut has sent", async () => {
  const { events, socket } = await connect()
  socket.write("in time ")
  await until(() => events.join("") === "in time ")
  const stranded = proxy.strand(50, 100)
  socket.write("late")
  await until(() => events.includes("<ECONNRESET>"))
  const next = await connect()
  next.socket.write("next")
  await until(() => next.events.join("") === "next")
  expect(atServer).toEqual(["in time ", "next"])
  await stranded
  await until(() => atServer.includes("<end>"))
  expect(atServer).toEqual(["in time ", "next", "late", "<end>"])
  next.socket.destroy()
})

test("strands one connection from a request on, if such a request comes", async () => {
  const [one, other] = [await connect(), await connect()]
  const stranded = proxy.strand(20, 20, (request) => request.includes("this"))
  for (const text of ["a", "this"]) {
    one.socket.write(text)
    await sleep(5)
  }
  other.socket.write("other")
  await stranded
  await until(() => atServer.includes("<end>"))
  expect(atServer.filter((text) => text !== "<error>").join("")).toBe("aotherthis<end>")
  expect(other.events).toEqual(["other"])
  other.socket.destroy()
})

test("forgets the connections that are open, and passes new ones", async () => {
  const forgotten = await connect()
  forgotten.socket.write("before")
  await until(() => forgotten.events.join("") === "before")
  proxy.forget()
  forgotten.socket.write("after")
  const next = await connect()
  next.socket.write("next")
  await until(() => next.events.join("") === "next")
  proxy.release()
  await sleep(50)
  expect(atServer.filter((text) => text !== "<error>")).toEqual(["before", "next"])
  expect(forgotten.events).toEqual(["before"])
  expect(proxy.connections()).toBe(2)
  for (const { socket } of [forgotten, next]) socket.destroy()
})

test("loses messages to a subscriber, or passes them on late, and nothing else", async () => {
  const { events, socket } = await connect()
  const message = (text: string) => `*3\r\n$7\r\nmessage\r\n$5\r\ninbox\r\n$${text.length}\r\n${text}\r\n`
  proxy.deliverNotifications("lose")
  socket.write(`+OK\r\n${message("one")}+PONG\r\n`)
  await until(() => events.join("") === "+OK\r\n+PONG\r\n")
  proxy.deliverNotifications({ late: 50 })
  socket.write(`${message("two")}+PONG\r\n`)
  await until(() => events.join("") === `+OK\r\n+PONG\r\n+PONG\r\n${message("two")}`)
  proxy.deliverNotifications("in time")
  socket.write(message("three"))
  await until(() => events.at(-1) === message("three"))
  socket.destroy()
})

test("passes bytes both ways and counts them", async () => {
  const { events, socket } = await connect()
  const seen: Array<string> = []
  const stop = proxy.onRequest((chunk) => seen.push(chunk.toString()))
  socket.write("hello")
  await until(() => events.join("") === "hello")
  stop()
  expect(proxy.bytes()).toEqual({ requests: 5, replies: 5 })
  expect(proxy.connections()).toBe(1)
  expect(proxy.accepted()).toBe(1)
  expect(seen).toEqual(["hello"])
  socket.end()
  await until(() => proxy.connections() === 0 && events.length > 1)
  expect(events).toEqual(["hello", "<end>"])
})

test("holds requests, holds replies, and lets everything through in order", async () => {
  const { events, socket } = await connect()
  proxy.hold()
  socket.write("a")
  await sleep(50)
  expect(atServer).toEqual([])
  proxy.release()
  await until(() => events.join("") === "a")
  proxy.holdReplies()
  socket.write("b")
  await until(() => atServer.join("") === "ab")
  await sleep(50)
  expect(events.join("")).toBe("a")
  proxy.holdRequests()
  socket.write("c")
  socket.end()
  await sleep(50)
  expect(atServer.join("")).toBe("ab")
  proxy.release()
  await until(() => events.join("") === "abc<end>")
})

test("a listener that holds replies on a request keeps the reply to it", async () => {
  const { events, socket } = await connect()
  proxy.onRequest((chunk) => {
    if (chunk.includes("SET")) proxy.holdReplies()
  })
  socket.write("SET")
  await until(() => atServer.join("") === "SET")
  await sleep(30)
  expect(events).toEqual([])
})

test("resets open connections on both sides", async () => {
  const { events, socket } = await connect()
  socket.write("a")
  await until(() => events.length === 1)
  proxy.reset()
  await until(() => events.at(-1) === "<ECONNRESET>" && atServer.at(-1) === "<error>")
  expect(proxy.connections()).toBe(0)
})

test("refuses and accepts new connections", async () => {
  const first = await connect()
  proxy.refuse()
  expect((await connect()).events).toEqual(["<ECONNREFUSED>"])
  first.socket.write("still")
  await until(() => first.events.join("") === "still")
  await proxy.accept()
  const second = await connect()
  second.socket.write("again")
  await until(() => second.events.join("") === "again")
  expect(proxy.accepted()).toBe(2)
})

test("delays both ways", async () => {
  const { events, socket } = await connect()
  proxy.delay(60)
  const start = performance.now()
  socket.write("a")
  await until(() => events.length === 1)
  expect(performance.now() - start).toBeGreaterThan(115)
})
