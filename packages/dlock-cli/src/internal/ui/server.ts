import type { Locker } from "effect-dlock/Locker"
import type { InvalidLockRequest, LockBackendError } from "effect-dlock/LockError"
import * as ByteSize from "effect/ByteSize"
import * as Effect from "effect/Effect"
import * as HttpIncomingMessage from "effect/http/HttpIncomingMessage"
import * as HttpRouter from "effect/http/HttpRouter"
import type { HttpServer } from "effect/http/HttpServer"
import * as HttpServerService from "effect/http/HttpServer"
import * as HttpServerRequest from "effect/http/HttpServerRequest"
import * as HttpServerResponse from "effect/http/HttpServerResponse"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import type * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import * as Stream from "effect/Stream"
import { shown } from "../shown.ts"
import * as Assets from "./assets.ts"
import * as Changes from "./changes.ts"
import * as Guard from "./guard.ts"
import type { About, Answer } from "./page/protocol.ts"
import type { Polling } from "./polling.ts"

export interface Options {
  readonly about: About
  readonly word: string
  readonly polling: Polling
}

/** Serves the page under its word. Where nothing may be changed there are no routes that do. */
export const serve = Effect.fnUntraced(function*(
  { about, polling, word }: Options
): Effect.fn.Return<void, never, HttpServer | Locker | Scope.Scope> {
  const { isReadOnly } = about
  const routes = Layer.mergeAll(looking(about, polling), isReadOnly ? Layer.empty : changing(polling))
  const app = yield* HttpRouter.toHttpEffect(routes)
  const guarded = Effect.flatMap(HttpServerRequest.HttpServerRequest, (request) => {
    const refusal = Guard.refusal(request, { word, isReadOnly })
    return refusal === undefined
      ? Effect.catch(app, (error) =>
        Effect.succeed(
          error.reason._tag === "RouteNotFound"
            ? HttpServerResponse.text("There is no such page.\n", { status: 404 })
            : HttpServerResponse.text("This request makes no sense.\n", { status: 400 })
        ))
      : Effect.succeed(refusal)
  })
  yield* HttpServerService.serveEffect(Effect.map(guarded, Guard.withSafeHeaders)).pipe(
    Effect.provideService(HttpIncomingMessage.MaxBodySize, ByteSize.fromInputUnsafe("16 KiB"))
  )
})

const looking = (about: About, polling: Polling) => {
  const assets = Array.from(Assets.load(), ([name, { body, type }]) =>
    HttpRouter.route(
      "GET",
      `/:word/${name === "index.html" ? "" : name}`,
      HttpServerResponse.text(body, { contentType: `${type}; charset=utf-8` })
    ))
  const updates = Effect.sync(() =>
    HttpServerResponse.stream(Stream.encodeText(polling.updates), { contentType: "text/event-stream" })
  )
  const details = Effect.gen(function*() {
    const { id } = yield* HttpRouter.params
    const found = yield* polling.details(Number(id))
    return Option.isNone(found)
      ? HttpServerResponse.text("This lock is not known any more.\n", { status: 410 })
      : HttpServerResponse.jsonUnsafe(found.value)
  }).pipe(Effect.catch(failed))
  return HttpRouter.addAll([
    ...assets,
    HttpRouter.route("GET", "/:word/about", HttpServerResponse.jsonUnsafe(about)),
    HttpRouter.route("GET", "/:word/updates", updates),
    HttpRouter.route("GET", "/:word/locks/:id", details)
  ])
}

const changing = (polling: Polling) =>
  HttpRouter.addAll([
    HttpRouter.route(
      "POST",
      "/:word/revoke",
      answer(Changes.RevokeRequest, (request) => Changes.revoke(polling, request))
    ),
    HttpRouter.route(
      "POST",
      "/:word/break",
      answer(Changes.BreakRequest, (request) => Changes.breakLock(polling, request))
    )
  ])

const answer = <A, R>(
  schema: Schema.ConstraintDecoder<A>,
  act: (request: A) => Effect.Effect<Answer, InvalidLockRequest | LockBackendError, R>
) =>
  Effect.matchEffect(HttpServerRequest.schemaBodyJson(schema), {
    onFailure: () => Effect.succeed(HttpServerResponse.text("This request makes no sense.\n", { status: 400 })),
    onSuccess: (request) =>
      act(request).pipe(
        Effect.map((answer) => HttpServerResponse.jsonUnsafe(answer)),
        Effect.catch(failed)
      )
  })

/** What the page shows of a call that failed. */
const failed = (error: InvalidLockRequest | LockBackendError) =>
  Effect.succeed(HttpServerResponse.text(shown(error.message), { status: 502 }))
