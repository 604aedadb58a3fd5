import { find } from "./programs.ts"
import { freePorts, retry, type Server, start } from "./server.ts"

/**
 * Whether a plain client can write and read by way of this address. Where the cluster asks who we are, that question has
 * come from a member, so the way there is open.
 */
const passes = async (url: string): Promise<boolean> => {
  // Loaded only here: a test that starts another server does not wait for the client and its protocol files.
  const { Etcd3 } = await import("etcd3")
  const client = new Etcd3({ hosts: url, defaultCallOptions: () => ({ deadline: Date.now() + 1_000 }) })
  const key = `dlock-testing/${process.pid}`
  try {
    await client.put(key).value(url)
    const value = await client.get(key).string()
    await client.delete().key(key)
    return value === url
  } catch (error) {
    if (/user name is empty/.test((error as Error).message)) return true
    throw error
  } finally {
    client.close()
  }
}

/** Starts `etcd grpc-proxy` in front of members, named by their URLs. It merges watches and caches answers. */
export const startGrpcProxy = (
  endpoints: ReadonlyArray<string>,
  args: ReadonlyArray<string> = []
): Promise<Server> => {
  const program = find("etcd")
  return retry(async () => {
    const [port] = await freePorts(1) as [number]
    const url = `http://127.0.0.1:${port}`
    return start({
      name: "grpc-proxy",
      program,
      port,
      url,
      args: (dir) => [
        "grpc-proxy",
        "start",
        `--endpoints=${endpoints.join(",")}`,
        `--listen-addr=127.0.0.1:${port}`,
        `--advertise-client-url=127.0.0.1:${port}`,
        `--data-dir=${dir}/data`,
        ...args
      ],
      ready: () => passes(url)
    })
  })
}
