// The simulated Redis beside a real one, at the level of the wire: the same keys and arguments, the same raw replies.
import { assert, describe, it } from "@effect/vitest"
import { startRedis } from "dlock-testing"
import { Redis } from "ioredis"
import * as Scripts from "../../packages/dlock-redis/src/internal/protocol/index.ts"
import { keysOf } from "../../packages/dlock-redis/src/internal/protocol/keys.ts"
import { Checker } from "../src/checker.ts"
import * as Plans from "../src/planning.ts"
import { Random } from "../src/random.ts"
import { RedisServer } from "../src/redis/server.ts"
import { ServerLog } from "../src/serverLog.ts"
import { Timeline } from "../src/timeline.ts"

/** Milliseconds, so long that the time a walk takes does not matter. */
const ttl = 1_000_000
const near = 60_000

type Raw = string | number | Error | ReadonlyArray<Raw>

/** What a refresh says of a lock where all are in their place, as it says it of any other. */
const longWay = (reply: Raw): Raw => {
  if (!Array.isArray(reply) || reply[0] !== "stayed") return reply
  const [, floor, length, label, remaining, ...places] = reply as ReadonlyArray<string | number>
  return [...places.map((place) => ["queued", floor!, place, length!, "held", label!, remaining!]), 0]
}

/** A token has a zero in front if others wait behind its claim. */
const numberIn = (token: string): string => token.replace(/^0/, "")

const walk = async (redis: Redis, seed: number, steps: number): Promise<number> => {
  const random = Random.of(seed)
  const timeline = new Timeline()
  const serverLog = new ServerLog(timeline, Plans.make(1, "redis"), new Checker(timeline, new Set()))
  const server = new RedisServer(timeline, serverLog, {})
  const keys = keysOf(`wire-${seed}`)!
  /** Tokens of both sides, which grow alike and are not the same. */
  const tokens = new Map<string, string>()
  let born = 0
  let ids: Array<string> = []
  const held = new Map<string, readonly [ours: string, theirs: string]>()

  const same = (our: Raw, their: Raw, where: string): void => {
    if (our instanceof Error || their instanceof Error) {
      const codes = [our, their].map((one) => one instanceof Error ? one.message.slice(0, 8) : one)
      return assert.strictEqual(codes[0], codes[1], where)
    }
    if (Array.isArray(our) && Array.isArray(their)) {
      assert.strictEqual(our.length, their.length, where)
      return our.forEach((one, index) => same(one, their[index], where))
    }
    if (typeof our === "number" && typeof their === "number" && our > near) {
      return assert.closeTo(our, their, near, where)
    }
    // A number of a clock in microseconds: a token, or a floor that is one or comes just before the first.
    if (typeof our === "string" && typeof their === "string" && /^0?\d{16}$/.test(our)) {
      assert.match(their, /^0?\d{16}$/, where)
      assert.strictEqual(their.startsWith("0"), our.startsWith("0"), where)
      if (!tokens.has(numberIn(our))) tokens.set(numberIn(our), numberIn(their))
      return
    }
    assert.strictEqual(our, their, where)
  }

  const both = async <Args, Reply>(script: Scripts.Script<Args, Reply>, ours: Args, theirs: Args) => {
    const whole = random.chance(0.1) ? "eval" : "evalsha"
    const program = whole === "eval" ? script.lua : script.sha
    const call = script.encode(ours)
    const other = script.encode(theirs)
    const our = server.execute(whole, program, call.keys, call.args)
    const reply = await redis[whole](program, other.keys.length, ...other.keys, ...other.args)
      .catch((error: Error) => error) as Raw
    // Where nobody is in the way a script answers in one word; the model takes the long way to the same.
    const their = script.name === "refresh" && Array.isArray(reply)
      ? reply.map(longWay)
      : typeof reply !== "string"
      ? reply
      : reply === "released"
      ? [reply, 0]
      : ["granted", reply, 0, 0]
    const where = `seed ${seed}: ${script.name} ${call.args.join(" ")}: ${JSON.stringify([our, their])}`
    same(our, their, where)
    if (our instanceof Error || their instanceof Error) return
    const readOurs = script.decode(our)
    assert.deepStrictEqual(Object.keys(readOurs as object), Object.keys(script.decode(their) as object), where)
    if (script.name === "acquire" && Array.isArray(our) && Array.isArray(their) && our[0] === "granted") {
      held.set((ours as Scripts.AcquireArgs).id, [numberIn(String(our[1])), numberIn(String(their[1]))])
    }
  }

  for (let step = 0; step < steps; step++) {
    timeline.pass(timeline.now + 1_000)
    const fresh = ids.length === 0 || random.chance(0.3)
    const id = fresh ? `w${born++}`.padEnd(22, "_") : random.pick(ids)
    if (fresh) ids = [id, ...ids]
    // Nobody is forgotten about: the queue would never move on.
    const left = ids.length > 4 ? ids.pop() : undefined
    if (left !== undefined) {
      const args = { keys, id: left, kind: undefined, tombstone: false, interop: false }
      await both(Scripts.release, args, args)
    }
    const dice = random.between(0, 99)
    if (dice < 45) {
      const args: Scripts.AcquireArgs = {
        keys,
        id,
        inbox: "nobody",
        ttl,
        guard: ttl / 10,
        // A claim keeps its kind.
        ...(Number.parseInt(id.slice(1)) % 20 === 7
          ? { kind: "semaphore", permits: 1, capacity: 2 }
          : { kind: "mutex", permits: 1, capacity: 1 }),
        mode: random.chance(0.3) ? "try" : "queue",
        label: `label ${id}`
      }
      await both(Scripts.acquire, args, args)
    } else if (dice < 60) {
      const claims = random.chance(0.1)
        ? []
        : [id, random.pick(ids)].filter((one, index, all) => all.indexOf(one) === index)
      const args = {
        inbox: "nobody",
        locks: [{ keys, kind: undefined, claims: claims.map((id) => ({ id, ttl, guard: ttl / 10 })) }]
      }
      await both(Scripts.refresh, args, args)
    } else if (dice < 64) {
      const [our, their] = held.get(id) ?? ["1", "1"]
      await both(Scripts.peek, { locks: [{ keys, token: our }] }, { locks: [{ keys, token: their }] })
    } else if (dice < 67) {
      const args = { keys, most: random.pick([2, 64]) }
      await both(Scripts.waiting, args, args)
    } else if (dice < 74) {
      const [our, their] = held.get(id) ?? ["1", "1"]
      const isWatched = random.chance(0.5)
      const claim = { keys, id, ttl, guard: ttl / 10, kind: "mutex", permits: 1, capacity: 1, isWatched } as const
      await both(
        Scripts.renew,
        { claims: [{ ...claim, token: BigInt(our) }] },
        { claims: [{ ...claim, token: BigInt(their) }] }
      )
    } else {
      const args = { keys, id, kind: undefined, tombstone: random.chance(0.3), interop: random.chance(0.1) }
      await both(Scripts.release, args, args)
    }
  }
  const grown = Array.from(tokens).sort(([a], [b]) => a < b ? -1 : 1).map(([, their]) => their)
  assert.deepStrictEqual(grown, grown.toSorted(), "tokens grow alike")
  return tokens.size
}

describe("the simulated Redis", () => {
  it("says on the wire what a real one says", { timeout: 120_000 }, async () => {
    const real = await startRedis()
    const redis = new Redis(real.port)
    try {
      let tokens = 0
      for (let seed = 1; seed <= 10; seed++) {
        await redis.script("FLUSH")
        tokens += await walk(redis, seed, 150)
      }
      console.log(`walks on the wire: 1500 scripts, ${tokens} tokens and floors`)
      assert.isAbove(tokens, 100)
    } finally {
      redis.disconnect()
      await real.stop()
    }
  })
})
