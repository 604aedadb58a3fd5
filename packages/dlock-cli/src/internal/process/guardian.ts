/**
 * The guardian of a command: a shell in the group of the command that outlives a `dlock` that was killed or stopped.
 *
 * It belongs to the group, so it signals its own group and needs no number of one: it can never meet a group that has got
 * the same number later. It ignores every signal that can be ignored, reads the other end of a socket that only `dlock`
 * has, and ends the group when that end closes, or at the moment that `dlock` named last.
 */

/** All that the shells do, in words that every POSIX shell knows. */
const functions = `
now() {
  if read -r up _ 2>/dev/null </proc/uptime; then up=\${up%.*}\${up#*.}; else up=0; fi
}
pause() {
  now
  left=$(($1 - up))
  if [ "$left" -le 0 ]; then return; fi
  hundredths=$((left % 100))
  if [ "$hundredths" -lt 10 ]; then hundredths=0$hundredths; fi
  sleep "$((left / 100)).$hundredths" &
  sleeping=$!
  wait "$sleeping"
}
alarm() {
  sleeping=
  trap 'if [ -n "$sleeping" ]; then kill -KILL "$sleeping"; fi; exit' ALRM
  if [ "$1" != - ]; then
    pause "$1"
    kill -TERM 0
  fi
  pause "$2"
  kill -KILL 0
}
guard() {
  alarm=
  ask=0
  by=
  while read -r word first second; do
    if [ -n "$alarm" ]; then
      kill -ALRM "$alarm"
      wait "$alarm"
    fi
    if [ "$word" != until ]; then exit; fi
    ask=$first
    by=$second
    alarm "$ask" "$by" &
    alarm=$!
  done
  if [ -n "$alarm" ]; then kill -ALRM "$alarm"; fi
  now
  at=$((up + gap))
  if [ -n "$by" ] && [ "$by" -lt "$at" ]; then at=$by; fi
  if [ "$ask" != - ]; then kill -TERM 0; fi
  pause "$at"
  kill -KILL 0
}
`

const ignored = "HUP INT QUIT TERM USR1 USR2 TSTP TTIN TTOU"

/**
 * Starts the guardian and becomes the command, so that no shell stands between the command and its caller. The guardian is
 * a child of nobody here: a command that waits for all its children must not wait for it. Arguments: the grace of a command
 * whose \`dlock\` is gone, in hundredths of a second, then the command.
 *
 * It tells the two pids when a signal that meets the group would end it: before that, a signal could be lost.
 */
export const start = `${functions}
gap=$1
shift
trap '' ${ignored}
guardian=$(
  (
    exec <&3 3<&- 4<&- >/dev/null 2>&1
    guard
  ) &
  echo $!
)
trap - ${ignored}
echo "$$ $guardian" >&3
exec 3<&- 4<&-
exec "$@"
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
