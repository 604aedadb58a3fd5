import * as NodeHttpServer from "@effect/platform-node/NodeHttpServer"
import { Locker } from "effect-dlock/Locker"
import * as Argument from "effect/cli/Argument"
import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"
import * as Console from "effect/Console"
import * as Effect from "effect/Effect"
import * as HttpServer from "effect/http/HttpServer"
import * as Layer from "effect/Layer"
import * as Stream from "effect/Stream"
import * as Http from "node:http"
import * as Backend from "../../backend.ts"
import { exitCodes } from "../../exitCodes.ts"
import { Failure } from "../../failure.ts"
import { write } from "../../output.ts"
import { quietly } from "../../quiet.ts"
import { shown } from "../../shown.ts"
import { makeWord } from "../../ui/guard.ts"
import { openInBrowser } from "../../ui/open.ts"
import * as Polling from "../../ui/polling.ts"
import * as Server from "../../ui/server.ts"
import { version } from "../../version.ts"

export const ui = Command.make("ui", {
  within: Argument.String("prefix").pipe(
    Argument.withDescription("Show the locks whose keys begin with this. Default: all"),
    Argument.withDefault("")
  ),
  port: Flag.Int("port").pipe(
    Flag.withDescription("The port on 127.0.0.1. 0: one that is free"),
    Flag.filter((port) => port >= 0 && port <= 65_535, () => "from 0 to 65535"),
    Flag.withDefault(0)
  ),
  allowChanges: Flag.Boolean("allow-changes").pipe(
    Flag.withDescription("Let the page revoke and break locks"),
    Flag.withDefault(false)
  ),
  open: Flag.Boolean("open").pipe(
    Flag.withDescription("Open the page in the browser"),
    Flag.withDefault(false)
  )
}, ({ allowChanges, open, port, within }) =>
  Effect.gen(function*() {
    const driver = yield* Backend.driver
    const keyPrefix = yield* Backend.keyPrefix
    // What a page could only tell later is told now: no server, no permission, a prefix that makes no sense.
    yield* Stream.runHead(Locker.list(within))
    const polling = yield* Polling.make(within)
    const word = makeWord()
    const isReadOnly = !allowChanges
    yield* Server.serve({
      polling,
      word,
      about: { driver, keyPrefix: shown(keyPrefix), within: shown(within), isReadOnly, version }
    })
    const url = yield* HttpServer.addressFormattedWith((address) => Effect.succeed(`${address}/${word}/`))
    yield* Console.error(
      isReadOnly
        ? "dlock: the page changes nothing. Whoever has its address sees all locks. Ctrl-C ends it."
        : "dlock: whoever has the address of the page can take locks away. Ctrl-C ends it."
    )
    yield* write({ url, isReadOnly }, (page) => page, (page) => page.url)
    if (open) yield* openInBrowser(url)
    return yield* Effect.never
  }).pipe(
    // The pages end before the server and the locker that they use.
    Effect.scoped,
    Effect.provide(Layer.merge(Backend.locker, listening(port))),
    quietly
  )).pipe(
    Command.withDescription("Show the locks on a page in the browser, live"),
    Command.withExamples([
      { command: "dlock ui", description: "Look at all locks: open the address that is printed" },
      { command: "dlock ui inventory: --open", description: "Look at the locks of the inventory, at once" },
      { command: "dlock ui --allow-changes", description: "Let the page revoke and break locks" }
    ])
  )

/** Nobody from another machine gets here. Streams of updates never end, so nothing is waited for at the end. */
const listening = (port: number) =>
  NodeHttpServer.layerServer(Http.createServer, { host: "127.0.0.1", port, gracefulShutdownTimeout: 0 }).pipe(
    Layer.catch(({ cause }) =>
      Layer.effect(
        HttpServer.HttpServer,
        Effect.fail(
          new Failure({
            message: `cannot listen on 127.0.0.1:${port} (--port): ${
              cause instanceof Error ? cause.message : String(cause)
            }`,
            exitCode: exitCodes.unavailable
          })
        )
      )
    )
  )
