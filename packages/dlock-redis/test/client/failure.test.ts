import { assert, describe, it } from "@effect/vitest"
import { fromClient } from "../../src/internal/client/failure.ts"

const said = (message: string) => fromClient(Object.assign(new Error(message), { name: "ReplyError" }))

describe("a user who lacks a permission", () => {
  it.each([
    "NOPERM User default has no permissions to run the 'evalsha' command",
    "NOPERM this user has no permissions to access one of the keys used as arguments",
    "NOPERM No permissions to access a key"
  ])("is refused before the script began: %s", (message) => {
    assert.deepInclude(said(message), { notDone: true, retryable: false })
  })

  it.each([
    "NOPERM User default has no permissions to run the 'publish' command script: 8c0f, on @user_script:4.",
    "ERR The user executing the script can't run this command or subcommand script: 8c0f, on @user_script:4."
  ])("may have been refused in the midst of the script: %s", (message) => {
    assert.deepInclude(said(message), { notDone: false, retryable: false })
  })
})
