// A command under a lock that writes, every 5 ms, that it is in: its token, its pid and the time. It ignores SIGTERM if it
// is told to, and a child of it always does.
import { spawn } from "node:child_process"
import * as Fs from "node:fs"

const [file, obedience, role = "command"] = process.argv.slice(2) as [string, string, string?]
const token = process.env["DLOCK_FENCING_TOKEN"]
if (obedience === "stubborn" || role === "grandchild") process.on("SIGTERM", () => {})
if (role === "command") {
  spawn(process.execPath, [import.meta.filename, file, obedience, "grandchild"], { stdio: "ignore" })
}
const output = Fs.openSync(file, "a")
setInterval(() => void Fs.writeSync(output, `${token} ${process.pid} ${role} ${process.hrtime.bigint()}\n`), 5)
