import { execFile } from "node:child_process"
import * as Path from "node:path"
import { promisify } from "node:util"
import { find } from "./programs.ts"

/** Where the `etcdctl` is that came with the etcd in use. */
export const etcdctlProgram = (): string => Path.join(Path.dirname(find("etcd")), "etcdctl")

/** Runs one command of the `etcdctl` that came with the etcd in use, and returns what it prints. */
export const etcdctl = async (url: string, ...args: ReadonlyArray<string>): Promise<string> => {
  const { stdout } = await promisify(execFile)(etcdctlProgram(), [`--endpoints=${url}`, ...args], {
    env: { ETCDCTL_API: "3" }
  })
  return stdout
}
