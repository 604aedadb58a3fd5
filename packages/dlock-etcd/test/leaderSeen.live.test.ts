import { describe, it } from "@effect/vitest"
import { leadersAreSeen } from "dlock-testing/watching"
import { Effect } from "effect"
import { locker, plainClient, server } from "./support.ts"

describe("Leader.observe", () => {
  it.live("and current tell who leads", () =>
    Effect.gen(function*() {
      const { url } = yield* server()
      const admin = yield* plainClient(url)
      const deleteByHand = Effect.promise(async () => void await admin.delete().prefix("dlock:role"))
      yield* leadersAreSeen((holder) => locker({ hosts: url, holder }), deleteByHand)
    }).pipe(Effect.scoped), 60_000)
})
