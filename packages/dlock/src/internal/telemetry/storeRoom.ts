import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Time from "../scheduling/time.ts"
import { callBack } from "./callBack.ts"
import { observerThrew } from "./events.ts"
import { type Annotations, Log } from "./log.ts"
import { Outage } from "./outage.ts"

/**
 * The log lines of one store.
 *
 * @category models
 * @since 0.1.0
 */
export interface StoreTelemetry {
  /**
   * Runs a callback that resumes code outside the store, such as the fiber that waits for a grant. The fiber runs
   * within this call, and an observer of its end may throw. The error is logged, with the key if one is given, and does
   * not reach the store.
   */
  readonly callBack: (callback: () => void, key?: string) => void
  /** Reports that a connection was lost. Any object may identify the connection. */
  readonly connectionLost: (connection: object) => void
  /**
   * Reports why a lost connection could not be made again. The first reason is logged with the loss. A later reason is
   * logged only if `isRefused`: the server refuses the connection, for example the login, and a person must act.
   */
  readonly connectionFailed: (connection: object, why: string, isRefused: boolean) => void
  /**
   * Reports that a lost connection works again. When no connection is lost any more, the outage ends, and one line logs
   * that.
   */
  readonly connectionBack: (connection: object) => void
  /** Logs a warning with the annotation `component=dlock` and the given annotations. */
  readonly warn: (text: string, annotations?: { readonly [name: string]: unknown }) => void
}

/** The telemetry of a store. All lockers over the store share its outage, so that an outage is logged once. */
export class StoreRoom implements StoreTelemetry {
  readonly outage: Outage
  private readonly log: Log

  constructor(log: Log, outage: Outage) {
    this.log = log
    this.outage = outage
  }

  callBack(callback: () => void, key?: string): void {
    callBack(this, callback, key)
  }

  observerThrew(error: unknown, key?: string): void {
    observerThrew(this.log, error, key)
  }

  connectionLost(connection: object): void {
    this.outage.noteLost(connection)
  }

  connectionFailed(connection: object, why: string, isRefused: boolean): void {
    this.outage.noteReason(connection, why, isRefused)
  }

  connectionBack(connection: object): void {
    this.outage.noteBack(connection)
  }

  warn(text: string, annotations?: Annotations): void {
    this.log.warn(text, annotations)
  }
}

export const make = (server: string): Effect.Effect<StoreRoom> =>
  Effect.contextWith((context: Context.Context<never>) =>
    Effect.map(Time.make, (time) => {
      const log = new Log(context)
      return new StoreRoom(log, new Outage(log, time, server))
    })
  )

export const callBackIn = (context: Context.Context<never>, callback: () => void, key?: string): void => {
  try {
    callback()
  } catch (error) {
    observerThrew(new Log(context), error, key)
  }
}
