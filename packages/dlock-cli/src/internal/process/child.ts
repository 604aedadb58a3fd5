import * as Effect from "effect/Effect"
import { type ChildProcess, spawn } from "node:child_process"
import * as Os from "node:os"
import type { Duplex } from "node:stream"
import { exitCodes } from "../exitCodes.ts"
import { Failure } from "../failure.ts"
import * as Command from "./command.ts"
import { isGroupAtWork, signalGroup } from "./group.ts"
import * as Guardian from "./guardian.ts"
import * as Terminal from "./terminal.ts"
import { hundredths, uptime } from "./uptime.ts"

/** The exit code of a shell for a command that a signal has ended. */
export const codeOf = (signal: NodeJS.Signals): number => 128 + Os.constants.signals[signal]

/** After which part of the guard gap the guardian asks: a `dlock` that is well has asked before. */
const guardianAsksAfter = 1 / 4

/** After which part of the guard gap the command is killed. The rest is for it to disappear in. */
const killedAfter = 3 / 4

/** The pauses between two looks at a group whose first process has ended, in milliseconds. */
const firstLookAfter = 5
const longestPause = 250

/** How long the first line of a shell that has ended may be on its way, in milliseconds. */
const longestStart = 1_000

/**
 * Whether this `dlock` is itself inside a command of another. If that one loses its lock, it kills this process, but not our
 * command, which has a group of its own. So the end of this process must be the end of the command, at once: the guard gap
 * of the other lock may be nearly over.
 */
const isNested = (env: NodeJS.ProcessEnv): boolean =>
  env["DLOCK_KEY"] !== undefined && env["DLOCK_HOLDER"] !== undefined

/** Two readings of a deadline are the same deadline within that many milliseconds: each tells the guardian to start anew. */
const sameWithin = 5

/**
 * How long a lock is held if nothing confirms it, in milliseconds. Both clocks were read before it, so that a stop of this
 * process in between makes the deadline no later.
 */
export interface Held {
  /** As `uptime` says. */
  readonly at: number
  /** As `performance` says. */
  readonly now: number
  readonly remaining: number
}

/**
 * A command that runs under a lock, in a process group of its own, with a guardian in that group.
 */
export class Child {
  /** The exit code of the command, when its whole group has ended. */
  readonly ended: Promise<number>

  private readonly process: ChildProcess
  private readonly guardGap: number
  readonly isOnTerminal: boolean
  private readonly control: Duplex
  private group: number | undefined
  private guardian: number | undefined
  /** The signals that came before the group could receive them. */
  private pending: Array<NodeJS.Signals> = []
  /** The deadline that the guardian was told last, on the clock of `performance`. */
  private deadline: number
  private isStopping = false
  private hasEnded = false
  private isSuspended = false

  constructor(
    command: ReadonlyArray<string>,
    environment: Readonly<Record<string, string>>,
    guardGap: number,
    held: Held
  ) {
    this.guardGap = guardGap
    this.isOnTerminal = Terminal.isOurs()
    this.deadline = held.now + held.remaining
    const { env, script } = Command.handOver(environment)
    const start = Guardian.start + script
    const { askAt, killAt } = this.momentsOf(held)
    const grace = isNested(process.env) ? 0 : hundredths(guardGap * killedAfter)
    const args = [grace, askAt, killAt].map(String).concat(command)
    this.process = this.isOnTerminal
      ? spawn("sh", ["-m", "-c", Terminal.launch, "dlock", start, "dlock", ...args], {
        env,
        stdio: ["inherit", "inherit", "inherit", "pipe", "pipe"]
      })
      : spawn("sh", ["-c", start, "dlock", ...args], {
        env,
        detached: true,
        stdio: ["inherit", "inherit", "inherit", "pipe"]
      })
    this.control = this.process.stdio[3] as Duplex
    this.control.on("error", () => {})
    const begun = this.awaitStart()
    const code = this.isOnTerminal ? this.awaitJob(this.process.stdio[4] as Duplex) : this.awaitExit()
    this.ended = code.then(async (code) => {
      // Its line was written before the command began, unless the shell itself was ended.
      await Promise.race([begun, new Promise((resolve) => setTimeout(resolve, longestStart).unref())])
      await this.awaitGroup()
      this.hasEnded = true
      this.control.end(Guardian.end)
      return code
    })
    // Whoever asks for it hears of a failure.
    this.ended.catch(() => {})
  }

  private awaitStart(): Promise<void> {
    return new Promise((resolve) => {
      let text = ""
      this.control.setEncoding("utf8").on("data", (some: string) => {
        text += some
        const started = text.endsWith("\n") ? Guardian.readStarted(text.trim()) : undefined
        if (started === undefined) return
        this.group = started.group
        this.guardian = started.guardian
        for (const signal of this.pending) this.signal(signal)
        this.pending = []
        resolve()
      })
      this.control.on("close", () => {
        resolve()
        if (!this.hasEnded && !this.isStopping && this.group !== undefined) this.onGuardianGone?.()
      })
    })
  }

  /** Called if the guardian has been ended by somebody else while the command runs. */
  onGuardianGone: (() => void) | undefined

  private awaitExit(): Promise<number> {
    return new Promise((resolve, reject) => {
      this.process.once("error", (error) =>
        reject(
          new Failure({
            message: `the shell sh, which watches over the command, cannot be started: ${error.message}`,
            exitCode: exitCodes.notExecutable
          })
        ))
      this.process.once("exit", (code, signal) => resolve(code ?? codeOf(signal!)))
    })
  }

  /** Waits for the job of a shell on the terminal, and suspends us with it. */
  private awaitJob(channel: Duplex): Promise<number> {
    let text = ""
    channel.on("error", () => {})
    channel.setEncoding("utf8").on("data", (some: string) => {
      text += some
      const told = Terminal.readTold(text)
      if (told === undefined) return
      text = ""
      if (told.isStopped) this.suspend(channel)
      else {
        // The terminal sends the signal of a key to the foreground group. Ours was not, and would have been.
        if (told.code === codeOf("SIGINT") && !this.isStopping) process.kill(0, "SIGINT")
        channel.end("end\n")
      }
    })
    return this.awaitExit()
  }

  /** The user has suspended the command: suspends us, as the terminal would, and goes on when we are continued. */
  private suspend(channel: Duplex): void {
    this.isSuspended = true
    this.resume = () => {
      if (!this.isSuspended) return
      this.isSuspended = false
      channel.write(Terminal.isForeground(this.process.pid) ? "fg\n" : "bg\n")
    }
    process.kill(0, "SIGTSTP")
    // A lock that was lost meanwhile has ended its command, which must not go on for a moment before that.
    setTimeout(() => {
      if (performance.now() < this.deadline) this.resume?.()
    }, settledAfter)
  }

  private resume: (() => void) | undefined

  private async awaitGroup(): Promise<void> {
    const { group } = this
    if (group === undefined) return
    for (let pause = firstLookAfter; isGroupAtWork(group, this.guardian); pause = Math.min(pause * 2, longestPause)) {
      await new Promise((resolve) => setTimeout(resolve, pause))
    }
  }

  /** Passes a signal on to the group. */
  signal(signal: NodeJS.Signals): void {
    if (this.hasEnded) return
    if (this.group === undefined) this.pending.push(signal)
    else signalGroup(this.group, signal)
  }

  /** Tells the guardian how long the lock is held if nothing confirms it. */
  extend(held: Held): void {
    const deadline = held.now + held.remaining
    if (this.isStopping || held.remaining <= 0 || Math.abs(deadline - this.deadline) < sameWithin) return
    this.deadline = deadline
    const { askAt, killAt } = this.momentsOf(held)
    this.control.write(Guardian.until(askAt, killAt))
  }

  private momentsOf({ at, remaining }: Held): { readonly askAt: number; readonly killAt: number } {
    return {
      askAt: at + hundredths(remaining + this.guardGap * guardianAsksAfter),
      killAt: at + hundredths(remaining + this.guardGap * killedAfter)
    }
  }

  /** Asks the group to end, and kills it when three quarters of the guard gap after the deadline are over. */
  readonly stop: Effect.Effect<void> = Effect.callback((resume) => {
    this.isStopping = true
    const at = uptime()
    const now = performance.now()
    const left = Math.max(0, Math.min(now, this.deadline) + this.guardGap * killedAfter - now)
    this.signal("SIGTERM")
    this.control.write(Guardian.until(undefined, at + hundredths(left)))
    const timer = setTimeout(() => {
      this.signal("SIGKILL")
      this.resume?.()
    }, left)
    const done = () => {
      clearTimeout(timer)
      resume(Effect.void)
    }
    this.ended.then(done, done)
  })
}

/** How long the system takes to stop a process that has asked for it, in milliseconds. */
const settledAfter = 30
