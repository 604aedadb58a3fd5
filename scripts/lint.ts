// Rules of ours for oxlint. The first: what is called `is…` or `has…` asks, so it returns a boolean and says so.
// A command with such a name (`claims.isGone(claim)`) reads as a question in review, and changes state.

interface Node {
  readonly type: string
  readonly [field: string]: any
}

const asks = (name: unknown): name is string => typeof name === "string" && /^(is|has)[A-Z]/.test(name)

const nameOf = (key: Node | undefined): string | undefined =>
  key === undefined ? undefined : key.type === "Identifier" ? key.name : key.type === "Literal" ? key.value : undefined

/** `boolean`, `x is T`, either of these in a union with `undefined`, or an effect or a promise of one. */
const isBooleanType = (type: Node | undefined): boolean => {
  switch (type?.type) {
    case "TSBooleanKeyword":
    case "TSTypePredicate":
      return true
    case "TSLiteralType":
      return typeof type.literal.value === "boolean"
    case "TSTypeReference": {
      const name = type.typeName.right?.name ?? type.typeName.name
      return ["Effect", "Promise"].includes(name) && isBooleanType(type.typeArguments?.params[0])
    }
    case "TSUnionType":
      return type.types.every((part: Node) => part.type === "TSUndefinedKeyword" || isBooleanType(part))
    default:
      return false
  }
}

/** The type of a value that asks: a boolean, or a function that returns one. Types by name are not looked into. */
const isAsking = (type: Node | undefined): boolean =>
  type === undefined || type.type === "TSTypeReference" || type.type === "TSIndexedAccessType" || isBooleanType(type) ||
  (type.type === "TSFunctionType" && isBooleanType(type.returnType?.typeAnnotation)) ||
  (type.type === "TSUnionType" &&
    type.types.every((part: Node) => part.type === "TSUndefinedKeyword" || isAsking(part)))

const isFunction = (node: Node | null | undefined): boolean =>
  node?.type === "ArrowFunctionExpression" || node?.type === "FunctionExpression"

interface Context {
  readonly report: (problem: { readonly node: Node; readonly message: string }) => void
}

const rule = {
  create: (context: Context) => {
    const wrong = (node: Node, name: string) =>
      context.report({ node, message: `${name} does not say that it returns a boolean. A command has a verb.` })
    const checkFunction = (node: Node, name: unknown, fn: Node) => {
      if (asks(name) && !isBooleanType(fn.returnType?.typeAnnotation)) wrong(node, name)
    }
    const checkValue = (node: Node, name: unknown, type: Node | undefined) => {
      if (asks(name) && !isAsking(type)) wrong(node, name)
    }
    return {
      FunctionDeclaration: (node: Node) => checkFunction(node, node.id?.name, node),
      MethodDefinition: (node: Node) => checkFunction(node, nameOf(node.key), node.value),
      PropertyDefinition: (node: Node) =>
        isFunction(node.value) && node.typeAnnotation == null
          ? checkFunction(node, nameOf(node.key), node.value)
          : checkValue(node, nameOf(node.key), node.typeAnnotation?.typeAnnotation),
      VariableDeclarator: (node: Node) => {
        const type: Node | undefined = node.id.typeAnnotation?.typeAnnotation
        if (isFunction(node.init) && type === undefined) checkFunction(node, node.id.name, node.init)
        else checkValue(node, node.id.name, type)
      },
      TSPropertySignature: (node: Node) => checkValue(node, nameOf(node.key), node.typeAnnotation?.typeAnnotation),
      TSMethodSignature: (node: Node) => {
        const name = nameOf(node.key)
        if (asks(name) && !isBooleanType(node.returnType?.typeAnnotation)) wrong(node, name)
      }
    }
  }
}

// The second: what ships logs in the telemetry room alone, and starts no fiber outside the program's context, which has its
// loggers and its clock.

const namesOfRuns = new Set(["runFork", "runSync", "runSyncExit", "runPromise", "runPromiseExit", "runCallback"])

const logsInTheTelemetryRoom = {
  create: (context: Context) => ({
    MemberExpression: (node: Node) => {
      const { object, property } = node
      if (object.type !== "Identifier" || object.name !== "Effect" || property.type !== "Identifier") return
      const name: string = property.name
      if (/^(log|annotateLogs)/.test(name)) {
        const message = "Only telemetry logs: add an event to internal/telemetry, or use effect-dlock/StoreTelemetry."
        context.report({ node, message })
      } else if (namesOfRuns.has(name)) {
        const message = `Effect.${name} drops the program's context. Run with Effect.context, or in a FiberSet.`
        context.report({ node, message })
      }
    }
  })
}

export default {
  meta: { name: "dlock" },
  rules: { "asks-for-a-boolean": rule, "logs-in-the-telemetry-room": logsInTheTelemetryRoom }
}
