import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Time from "../scheduling/time.ts"
import { callBack } from "./callBack.ts"
import { observerThrew } from "./events.ts"
import { type Annotations, Log } from "./log.ts"
import { Outage } from "./outage.ts"

/**
 * The log lines of one store.
 */
export interface StoreTelemetry {
  /**
   * Calls back into code that is not the store's, such as the fiber that waits for a grant: a fiber that is resumed runs on
   * within that call, and an observer of its end may throw. What it throws is logged, with the key where one is given, and
   * does not reach the store.
   */
  readonly callBack: (callback: () => void, key?: string) => void
  /** Notes that a connection is lost. Any object that stands for the connection will do. */
  readonly connectionLost: (connection: object) => void
  /**
   * Notes why a lost connection could not be made again. The first reason is logged as the loss; a later one is logged if
   * `isRefused`: the server refuses the login, for example, and somebody has to act.
   */
  readonly connectionFailed: (connection: object, why: string, isRefused: boolean) => void
  /** Notes that a lost connection works again. With the last of them the outage is over, which is logged. */
  readonly connectionBack: (connection: object) => void
  /** Logs a warning, annotated with `component=dlock` and with the facts that are given. */
  readonly warn: (text: string, annotations?: { readonly [name: string]: unknown }) => void
}

/** The telemetry of a store. Lockers over that store share its outage, so that each is logged once. */
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
