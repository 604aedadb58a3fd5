/**
 * A command on a terminal. There it must be the foreground group, or it could not read, and Ctrl-C would not reach it. Node
 * can make no group foreground: a shell with job control can.
 */
import { execFileSync } from "node:child_process"
import * as Fs from "node:fs"

/**
 * Runs the command as its foreground job. When the job has stopped or ended, the shell tells its exit code and, if it has
 * stopped, its pid, and waits for an order. Arguments: the script that starts a command,
 * its name, then its arguments.
 */
export const launch = `
dlock_modes=$(stty -g 2>/dev/null)
sh -c "$@"
code=$?
while :; do
  echo "code $code" >&4
  jobs -p >&4
  echo . >&4
  read -r order <&4 || exit
  case $order in
    fg) fg >/dev/null 2>&1; code=$? ;;
    bg) bg >/dev/null 2>&1; wait "$(jobs -p)"; code=$? ;;
    *) break ;;
  esac
done
if [ "$code" -gt 128 ] && [ -n "$dlock_modes" ]; then stty "$dlock_modes" 2>/dev/null; fi
exit "$code"
`

/** What that shell tells. */
export interface Told {
  readonly code: number
  readonly isStopped: boolean
}

export const readTold = (text: string): Told | undefined => {
  const [, code, stopped] = /^code (\d+)\n(\d*)/.exec(text) ?? []
  return code === undefined || !text.endsWith(".\n") ? undefined : { code: Number(code), isStopped: stopped !== "" }
}

interface Groups {
  readonly own: number
  readonly foreground: number
}

/** Our own group, and the one that our terminal obeys. `undefined` if we have no terminal. */
const groups = (): Groups | undefined => {
  try {
    const stat = Fs.readFileSync("/proc/self/stat", "latin1")
    const [, , own, , , foreground] = stat.slice(stat.lastIndexOf(")") + 2).split(" ", 6)
    return Number(foreground) > 0 ? { own: Number(own), foreground: Number(foreground) } : undefined
  } catch {
    return fromPs()
  }
}

const fromPs = (): Groups | undefined => {
  try {
    const text = execFileSync("ps", ["-o", "pgid=,tpgid=", "-p", String(process.pid)], { encoding: "utf8" })
    const [own, foreground] = text.trim().split(/\s+/)
    return Number(foreground) > 0 ? { own: Number(own), foreground: Number(foreground) } : undefined
  } catch {
    return undefined
  }
}

/**
 * Whether a command may take the terminal: what it reads and writes is the terminal, and the terminal is ours. In
 * `dlock run KEY -- CMD | less` it belongs to `less`.
 */
export const isOurs = (): boolean => {
  if (process.stdin.isTTY !== true || process.stdout.isTTY !== true) return false
  const known = groups()
  return known !== undefined && known.own === known.foreground
}

/** Whether the terminal obeys one of these groups, or ours. */
export const isForeground = (group: number | undefined): boolean => {
  const known = groups()
  return known !== undefined && (known.foreground === known.own || known.foreground === group)
}
