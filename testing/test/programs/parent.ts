import * as Path from "node:path"
import { report, startWorker } from "../../src/index.ts"

const child = startWorker(Path.join(import.meta.dirname, "child.ts"))
await child.waitFor((message) => "ready" in message)
report({ child: child.pid })
