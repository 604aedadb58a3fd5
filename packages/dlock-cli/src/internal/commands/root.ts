import * as Command from "effect/cli/Command"
import * as Flag from "effect/cli/Flag"

/** `dlock`, and the flags that every subcommand takes, before or after its name. */
export const root = Command.make("dlock").pipe(
  Command.withSharedFlags({
    driver: Flag.Literals("driver", ["redis", "etcd", "memory"]).pipe(
      Flag.withDescription("The backend. Default: DLOCK_DRIVER, or the one whose address is set"),
      Flag.optional
    ),
    prefix: Flag.String("prefix").pipe(
      Flag.withDescription("The text before every key at the backend. Default: DLOCK_PREFIX, or dlock:"),
      Flag.optional
    ),
    json: Flag.Boolean("json").pipe(
      Flag.withDescription("Write JSON: one value, or one line for each of a list"),
      Flag.withDefault(false),
      Flag.withoutNegation
    )
  }),
  Command.withDescription("Distributed locks on Redis, Valkey and etcd: hold them, look at them, free them")
)
