/**
 * The guardian of a command: a shell in the group of the command that outlives a `dlock` that was killed or stopped.
 *
 * It belongs to the group, so it signals its own group and needs no number of one: it can never meet a group that has got
 * the same number later. It ignores every signal that can be ignored, reads the other end of a socket that only `dlock`
 * has, and ends the group when that end closes, or at the moment that `dlock` named last.
 */

import { exitCodes } from "../exitCodes.ts"

/** All that the shells do, in words that every POSIX shell knows. */
const functions = `
now() {
  if read -r up _ 2>/dev/null </proc/uptime; then up=$((\${up%.*} * 100 + 1\${up#*.} - 100)); else up=0; fi
}
pause() {
  while now; left=$(($1 - up)); [ "$left" -gt 0 ]; do
    hundredths=$((left % 100))
    if [ "$hundredths" -lt 10 ]; then hundredths=0$hundredths; fi
    sleep "$((left / 100)).$hundredths" &
    sleeping=$!
    wait "$sleeping"
    sleeping=
    if [ "$up" -eq 0 ]; then return; fi
  done
}
alarm() {
  sleeping=
  trap 'if [ -n "$sleeping" ]; then kill -KILL "$sleeping"; wait "$sleeping"; fi; exit' ALRM
  if [ "$1" != - ]; then
    pause "$1"
    guarded
    kill -TERM 0
  fi
  pause "$2"
  guarded
  kill -KILL 0
}
guarded() {
  read -r _ _ _ is _ 2>/dev/null </proc/self/stat || return 0
  if [ "$is" != "$guardian" ]; then exit; fi
}
guard() {
  read -r guardian _ 2>/dev/null </proc/self/stat
  ask=$2
  by=$3
  alarm "$ask" "$by" &
  alarm=$!
  while read -r word first second; do
    kill -ALRM "$alarm"
    wait "$alarm"
    if [ "$word" != until ]; then exit; fi
    ask=$first
    by=$second
    alarm "$ask" "$by" &
    alarm=$!
  done
  kill -ALRM "$alarm"
  now
  at=$((up + $1))
  if [ "$by" -lt "$at" ]; then at=$by; fi
  if [ "$ask" != - ]; then kill -TERM 0; fi
  pause "$at"
  kill -KILL 0
}
`

const ignored = "HUP INT QUIT TERM USR1 USR2 TSTP TTIN TTOU"

/**
 * Starts the guardian and becomes the command, so that no shell stands between the command and its caller. The guardian is
 * a child of nobody here: a command that waits for all its children must not wait for it. Arguments: the grace of a command
 * whose \`dlock\` is gone, in hundredths of a second, the two moments of \`until\`, then the command.
 *
 * The guardian knows the deadline before it reads a line, and the command does not begin after it: \`dlock\` may be stopped
 * between its look at the lease and its first line, or the machine may be so busy that this shell comes late.
 *
 * The shell that becomes the command sets no variable of its own: the command would see it, if its caller exported one of
 * the same name.
 */
export const start = `${functions}
echo "$$ $(
  trap '' ${ignored}
  (
    exec <&3 3<&- 4<&- >/dev/null 2>&1
    guard "$@"
  ) &
  echo $!
)" >&3
exec 3<&- 4<&-
if (now; [ "$up" -ne 0 ] && [ "$up" -ge "$2" ]); then exit ${exitCodes.lost}; fi
shift 3
`

/** What the guardian is told: when to ask the group to end, or that \`dlock\` did, and when to end it. */
export const until = (askAt: number | undefined, killAt: number): string => `until ${askAt ?? "-"} ${killAt}\n`

/** That the group has ended. */
export const end = "end\n"

/** The pids of the group's leader, which is the command, and of the guardian. */
export const readStarted = (line: string): { readonly group: number; readonly guardian: number } | undefined => {
  const [, group, guardian] = /^(\d+) (\d+)$/.exec(line) ?? []
  return group === undefined ? undefined : { group: Number(group), guardian: Number(guardian) }
}
