import type { Diagnosis, Finding, Severity } from "effect-dlock/Diagnosis"
import { styleText } from "node:util"
import type { Driver } from "../backend.ts"
import { exitCodes } from "../exitCodes.ts"
import { shown } from "../shown.ts"

/** What `dlock doctor` found. */
export interface Report extends Diagnosis {
  readonly driver: Driver
  /** Milliseconds of the ttl against which it was judged. */
  readonly ttl: number
}

const severities = ["error", "warning", "note", "ok"] as const satisfies ReadonlyArray<Severity>

const counted = ({ findings }: Diagnosis): Readonly<Record<Severity, number>> => {
  const count = (severity: Severity) => findings.filter((finding) => finding.severity === severity).length
  return { error: count("error"), warning: count("warning"), note: count("note"), ok: count("ok") }
}

const ordered = ({ findings }: Diagnosis): ReadonlyArray<Finding> =>
  findings.toSorted((one, other) => severities.indexOf(one.severity) - severities.indexOf(other.severity))

/** The exit code for checks of deployments. */
export const exitCodeOf = (report: Report, isStrict: boolean): number => {
  if (report.unreachable !== undefined) return exitCodes.unavailable
  const { error, warning } = counted(report)
  return error > 0 || (isStrict && warning > 0) ? exitCodes.no : exitCodes.ok
}

export const toJson = (report: Report): unknown => {
  const { error, note, ok, warning } = counted(report)
  return {
    driver: report.driver,
    ttlMs: report.ttl,
    ...(report.unreachable !== undefined && { unreachable: report.unreachable }),
    errors: error,
    warnings: warning,
    notes: note,
    ok,
    findings: ordered(report)
  }
}

const styles: Readonly<Record<Severity, Parameters<typeof styleText>[0]>> = {
  error: ["red", "bold"],
  warning: ["yellow", "bold"],
  note: "cyan",
  ok: "green"
}

/** The findings for people: what several servers have alike is told once. */
const together = (findings: ReadonlyArray<Finding>): ReadonlyArray<Finding> =>
  Array.from(
    Map.groupBy(findings, ({ check, fix, seen, severity, why }) => JSON.stringify([severity, check, seen, why, fix])),
    ([, [one, ...others]]) =>
      others.length === 0
        ? one!
        : { ...one!, subject: [one!, ...others].map(({ subject }) => subject ?? "all").join(", ") }
  )

export const toText = (report: Report): string => {
  const findings = together(ordered(report))
  const width = Math.max(...findings.map(({ check }) => check.length))
  const lines = findings.flatMap(({ check, fix, seen, severity, subject, why }) => {
    const label = styleText(styles[severity], severity.padEnd(7), { stream: process.stdout })
    const about = subject === undefined ? "" : `${shown(subject)}: `
    const under = (name: string, text: string | undefined) =>
      text === undefined ? [] : [`${" ".repeat(9)}${name} ${shown(text)}`]
    return [`${label}  ${check.padEnd(width)}  ${about}${shown(seen)}`, ...under("why:", why), ...under("fix:", fix)]
  })
  const { error, note, ok, warning } = counted(report)
  const many = (count: number, name: string) => `${count} ${name}${count === 1 ? "" : "s"}`
  const sum = [many(error, "error"), many(warning, "warning"), many(note, "note"), `${ok} ok`].join(", ")
  const verdict = report.unreachable !== undefined
    ? "The server cannot be reached."
    : error > 0
    ? "Not sound for locks."
    : warning > 0
    ? "Sound for locks, until something fails."
    : "Sound for locks."
  return [...lines, "", `${verdict} ${sum} (${report.driver}, ttl ${report.ttl / 1_000} s)`].join("\n")
}
