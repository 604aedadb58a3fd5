import * as Fs from "node:fs"

/**
 * The time since the machine was started, in hundredths of a second, with the time that it slept. A shell reads the same
 * clock without starting a program, so a moment on it means the same in `dlock` and in its guardian, whichever of the two
 * was stopped meanwhile. Where the system has no such file it is 0, and a moment is counted from when it is read.
 */
export const uptime = (): number => {
  try {
    const [whole, part] = Fs.readFileSync("/proc/uptime", "latin1").split(" ", 1)[0]!.split(".")
    return Number(whole) * 100 + Number(part)
  } catch {
    return 0
  }
}

/** Hundredths of a second, rounded down: a deadline may be a little early, and never late. */
export const hundredths = (millis: number): number => Math.floor(millis / 10)
