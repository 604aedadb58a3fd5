import * as Command from "effect/cli/Command"
import * as Effect from "effect/Effect"
import { exitCodes } from "../../exitCodes.ts"
import { Failure } from "../../failure.ts"

export const watch = Command.make(
  "watch",
  {},
  () => Effect.fail(new Failure({ message: "not built yet", exitCode: exitCodes.defect }))
)
