import { assert, describe, it } from "@effect/vitest"
import { Duration, Effect, Option, Stream } from "effect"
import { LockBackendError, Locker, type LockInfo } from "effect-dlock"
import { TestClock } from "effect/testing"
import { widthOf } from "../src/internal/shown.ts"
import { plain } from "../src/internal/text/style.ts"
import { Changes } from "../src/internal/watch/changes.ts"
import * as Controls from "../src/internal/watch/controls.ts"
import { LockTable } from "../src/internal/watch/lockTable.ts"
import { inPasses, type Sight } from "../src/internal/watch/source.ts"
import { draw, type View } from "../src/internal/watch/view.ts"

const infoOf = (key: string, token: number | undefined, queueLength = 0, left = 30_000): LockInfo => ({
  key,
  kind: Option.some("mutex"),
  capacity: Option.some(1),
  holders: token === undefined ? [] : [{
    holder: `holder-of-${key}`,
    metadata: {},
    token: BigInt(token),
    permits: 1,
    since: Option.none(),
    expiresIn: Option.some(Duration.millis(left)),
    traceparent: Option.none(),
    foreign: false,
    revoked: false
  }],
  holderCount: token === undefined ? 0 : 1,
  permitsHeld: token === undefined ? 0 : 1,
  waiting: [],
  queueLength,
  lastToken: Option.none()
})

const tableOf = (...infos: ReadonlyArray<LockInfo>) => {
  const table = new LockTable()
  for (const info of infos) table.see(info, 0)
  table.complete()
  return table
}

const viewOf = (table: LockTable, controls = Controls.initial): View => ({
  table,
  controls,
  keys: table.keys(controls),
  details: undefined,
  where: "redis",
  seenAt: 0,
  problem: undefined
})

describe("the load of a server", () => {
  /** Passes that take this long, watched for a minute. */
  const passesInAMinute = (took: number, answer: Stream.Stream<LockInfo, LockBackendError> = Stream.empty) =>
    Effect.gen(function*() {
      let passes = 0
      const list = () =>
        Stream.unwrap(Effect.as(Effect.andThen(Effect.sync(() => passes++), Effect.sleep(took)), answer))
      const sights: Array<Sight> = []
      yield* Effect.forkChild(
        Stream.runForEach(inPasses("", 1_000), (sight) => Effect.sync(() => void sights.push(sight))).pipe(
          Effect.provideService(Locker, { list } as unknown as Locker["Service"])
        )
      )
      yield* TestClock.adjust("1 minute")
      return { passes, sights }
    })

  it.effect("is a pass a second at most, and a fifth of the time where a pass takes long", () =>
    Effect.gen(function*() {
      assert.isAtMost((yield* passesInAMinute(1)).passes, 61)
      assert.isAtLeast((yield* passesInAMinute(1)).passes, 55)
      assert.isAtMost((yield* passesInAMinute(3_000)).passes, 5)
    }))

  it.effect("is no more while it does not answer, and it is asked on", () =>
    Effect.gen(function*() {
      const refused = new LockBackendError({ operation: "list", retryable: true, cause: new Error("away") })
      const { passes, sights } = yield* passesInAMinute(0, Stream.fail(refused))
      assert.isAtMost(passes, 61)
      assert.isAtLeast(passes, 55)
      assert.isTrue(sights.every(({ _tag }) => _tag === "Failed"))
    }))
})

describe("the table", () => {
  it("has as many lines as the screen, none of them wider, at any size", () => {
    const infos = Array.from({ length: 500 }, (_, nth) => infoOf(`k${nth}-${"倉庫".repeat(40)}`, nth, nth % 7))
    const table = tableOf(...infos)
    for (const isOpen of [false, true]) {
      const view = viewOf(table, { ...Controls.initial, selected: infos[250]!.key, isOpen })
      for (const columns of [40, 60, 70, 80, 120, 200]) {
        for (const rows of [5, 10, 24, 60]) {
          const lines = draw(view, { columns, rows }, plain, 0)
          assert.strictEqual(lines.length, rows)
          assert.isAtMost(Math.max(...lines.map(widthOf)), columns)
          assert.isTrue(lines.some((line) => line.startsWith("k250-")))
        }
      }
    }
  })

  it("shows the time that is left as a bar, measured by the longest that was left of this hold", () => {
    const table = tableOf(infoOf("a", 1, 0, 30_000))
    table.see(infoOf("a", 1, 0, 15_000), 15_000)
    const [, , line] = draw(viewOf(table), { columns: 100, rows: 10 }, plain, 15_000)
    assert.include(line!, "█████····· 15.0 s")
  })

  it("forgets what a pass did not see, and what is free", () => {
    const table = tableOf(infoOf("a", 1), infoOf("b", 2))
    table.see(infoOf("b", 2), 1)
    table.complete()
    assert.deepStrictEqual(table.keys(Controls.initial), ["b"])
    table.see(infoOf("b", undefined), 2)
    assert.deepStrictEqual(table.keys(Controls.initial), [])
  })

  it("is sorted and filtered as the keys say", () => {
    const table = tableOf(infoOf("c", 1, 0, 10), infoOf("a", 2, 3, 30), infoOf("b", undefined, 9))
    const keysOf = (wanted: Partial<Controls.Controls>) => table.keys({ ...Controls.initial, ...wanted }).join("")
    assert.deepStrictEqual(
      [
        keysOf({}),
        keysOf({ sort: "time left" }),
        keysOf({ sort: "waiting" }),
        keysOf({ only: "held" }),
        keysOf({ only: "waiting" }),
        keysOf({ filter: "of-c" })
      ],
      ["abc", "cab", "bac", "ac", "ab", "c"]
    )
  })
})

describe("a key", () => {
  const keys = ["a", "b", "c"]
  const press = (names: ReadonlyArray<string>, from: Controls.Controls = Controls.initial) =>
    names.reduce<Controls.Controls | undefined>((controls, name) => {
      const key = { name: name.replace(/^C-/, ""), ctrl: name.startsWith("C-"), meta: false, shift: false }
      const input = name.length === 1 ? Option.some(name) : Option.none<string>()
      return controls === undefined ? undefined : Controls.press(controls, { input, key }, keys, 10)
    }, from)

  it("moves the selection, opens it, and ends", () => {
    assert.strictEqual(press(["down", "down"])?.selected, "b")
    assert.strictEqual(press(["down", "up", "up"])?.selected, "a")
    assert.strictEqual(press(["pagedown", "pagedown"])?.selected, "c")
    assert.strictEqual(press(["end", "home"])?.selected, "a")
    assert.deepInclude(press(["return"]), { selected: "a", isOpen: true })
    assert.deepInclude(press(["return", "escape"]), { selected: "a", isOpen: false })
    assert.strictEqual(press(["s", "s"])?.sort, "waiting")
    assert.deepStrictEqual([press(["q"]), press(["C-c"]), press(["/", "C-c"])], [undefined, undefined, undefined])
  })

  it("is text while the filter is typed", () => {
    assert.deepInclude(press(["/", "q", "s", "backspace", "return"]), { filter: "q", isTyping: false })
    assert.deepInclude(press(["/", "q", "escape"]), { filter: "", isTyping: false })
  })
})

it("changes are told once: who holds it, who waits, that it was asked to leave, that it is free", () => {
  const changes = new Changes()
  const see = (...infos: ReadonlyArray<LockInfo>) =>
    [...infos.map((info): Sight => ({ _tag: "Seen", info })), { _tag: "Complete" } as const]
      .flatMap((sight) => changes.of(sight)).map(({ info, kind }) => `${kind} ${info.key}`)
  const held = infoOf("a", 1)
  const revoked = { ...held, holders: held.holders.map((holder) => ({ ...holder, revoked: true })) }
  assert.deepStrictEqual(
    [see(held, infoOf("b", 2)), see(held), see(infoOf("a", 1, 1)), see(revoked), see(infoOf("a", 3)), see()],
    [["held a", "held b"], ["free b"], ["waiting a"], ["revoked a"], ["held a"], ["free a"]]
  )
})
