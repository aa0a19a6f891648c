// Listens with examples/connection.js; each line on its output is a mark, or null for a gap
// that it was told of: another connection, on which what came before is not told.
import {readFileSync} from "node:fs";

// Node 20 says of a socket that could not be opened that it failed, and not that it is closed.
globalThis.WebSocket = class extends WebSocket {
  constructor(...given) {
    super(...given);
    this.addEventListener("error", () => this.onclose?.({code: 1006, reason: ""}));
  }
};

const [file, url, key, ...events] = process.argv.slice(2);
const source = readFileSync(file, "utf8");
const {Connection} = await import(`data:text/javascript,${encodeURIComponent(source)}`);
const connection = new Connection(url, "teller", [key]);
const tell = (value) => process.stdout.write(`${JSON.stringify(value)}\n`);
connection.onopen = () => tell(null);
for (const event of events) connection.on(event, tell);
