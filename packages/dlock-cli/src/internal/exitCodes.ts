/**
 * The exit codes of `dlock`, besides those of a command that it runs. They are those of sysexits.h, where one fits.
 */
export const exitCodes = {
  /** The call succeeded. */
  ok: 0,
  /** The answer is no: a check found something, or there was nothing to take away. */
  no: 1,
  /** The arguments make no sense. */
  usage: 64,
  /** The server does not answer, or refuses. */
  unavailable: 69,
  /** A defect of `dlock`. */
  defect: 70,
  /** The answer could not be written. */
  notWritten: 74,
  /** The lock is held by another: the call does not wait, or has waited long enough. */
  busy: 75,
  /** The lock was lost while the command ran. */
  lost: 76,
  /** A variable or an option of the configuration is missing or invalid. */
  config: 78,
  /** The command cannot be run. */
  notExecutable: 126,
  /** The command was not found. */
  notFound: 127
} as const
