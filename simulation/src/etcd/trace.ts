import type { ITxnRequest, ITxnResponse } from "etcd3"

/** A transaction as text, for a trace. */
export const traceOf = ({ compare = [], failure = [], success = [] }: ITxnRequest): string => {
  const one = (operation: NonNullable<ITxnRequest["success"]>[number]): string => {
    const { request_delete_range, request_put, request_range, request_txn } = operation as typeof operation & {
      readonly request_txn?: ITxnRequest
    }
    if (request_txn !== undefined) return `(${traceOf(request_txn)})`
    if (request_put !== undefined) return `put ${text(request_put.key)} on ${request_put.lease}`
    if (request_delete_range !== undefined) return `delete ${text(request_delete_range.key)}`
    return `range ${text(request_range?.key)}${request_range?.range_end === undefined ? "" : "..."}`
  }
  const when = compare.map(({ create_revision, key, value }) =>
    value === undefined ? `${text(key)}@${create_revision}` : `${text(key)} is ${text(value)}`
  ).join(" ")
  const otherwise = failure.length === 0 ? "" : ` else ${failure.map(one).join(", ")}`
  return `${when === "" ? "" : `if ${when}: `}${success.map(one).join(", ")}${otherwise}`
}

const text = (key: unknown): string => JSON.stringify(String(key))

/** An answer as text, for a trace. */
export const traceOfAnswer = (answer: unknown): string => {
  if (answer instanceof Error) return answer.message
  const { header, responses, succeeded } = (answer ?? {}) as Partial<ITxnResponse>
  if (responses === undefined) return JSON.stringify(answer) ?? "done"
  const parts = (responses as ReadonlyArray<Response>).map((
    { response_delete_range, response_range, response_txn }
  ): string =>
    response_txn !== undefined
      ? `(${traceOfAnswer({ ...response_txn, header })})`
      : response_range !== undefined
      ? `[${response_range.kvs.map(({ create_revision, key }) => `${text(key)}@${create_revision}`).join(" ")}]`
      : response_delete_range !== undefined
      ? `deleted ${response_delete_range.deleted}`
      : "put"
  )
  return `revision ${header?.revision}, ${succeeded ? "then" : "else"} ${parts.join(", ")}`
}

type Response = ITxnResponse["responses"][number] & { readonly response_txn?: object }
