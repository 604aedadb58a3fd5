import { execFile } from "node:child_process"
import * as Path from "node:path"
import { promisify } from "node:util"
import { find } from "./programs.ts"

/** Runs one command of the `etcdctl` that came with the etcd in use, and returns what it prints. */
export const etcdctl = async (url: string, ...args: ReadonlyArray<string>): Promise<string> => {
  const program = Path.join(Path.dirname(find("etcd")), "etcdctl")
  const { stdout } = await promisify(execFile)(program, [`--endpoints=${url}`, ...args], { env: { ETCDCTL_API: "3" } })
  return stdout
}
