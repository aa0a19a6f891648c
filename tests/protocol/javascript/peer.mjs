// A JavaScript peer: a JSON request on each line of its input, a JSON answer on each of its output.
import {createInterface} from "node:readline";
import {inspect, isDeepStrictEqual} from "node:util";
import {decode, encode} from "cbor-x";

const evaluate = (expression) => (0, eval)(`(${expression})`);

const operations = {
  // Whether the bytes mean the value of the expression, and what they mean.
  reads({hex, expression}) {
    const found = decode(Buffer.from(hex, "hex"));
    return {same: isDeepStrictEqual(found, evaluate(expression)), shown: inspect(found)};
  },
  // What the value of the expression is written as.
  writes({expression}) {
    return {hex: Buffer.from(encode(evaluate(expression))).toString("hex")};
  },
};

for await (const line of createInterface({input: process.stdin})) {
  const request = JSON.parse(line);
  let answer;
  try {
    answer = operations[request.operation](request);
  } catch (error) {
    answer = {error: String(error)};
  }
  process.stdout.write(JSON.stringify(answer) + "\n");
}
