import { onMessage, report } from "../../src/report.ts"

onMessage((message) => report({ echo: message }))
console.log("not a message")
report({ ready: process.pid, args: process.argv.slice(2) })
