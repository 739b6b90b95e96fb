// The live page: one stream, one table, one moment.
//
// Everything shown comes from the server's own addresses: GET events (what is committed, as it is committed), POST query
// (rows, now or as of an offset), GET tables, GET status. Text from the database only ever becomes text nodes.

const SHOWN_MAX = 300;        // changes kept on the page
const EARLIER = 60;           // transactions that are shown of what was before the page was opened
const ROWS = 200;             // rows of a table that are shown
const STATUS_EVERY = 5000;
const FREE_MIN = 256 * 2 ** 20; // bytes that the log's disk should have left
const $ = (id) => document.getElementById(id);

const page = {
  status: null, tables: [], table: null, at: null, search: "",
  source: null, cursor: null, seen: new Set(), paused: false, waiting: [], counts: new Map(), fresh: new Set(),
  times: new Map(), refresh: 0, asked: 0, retry: 0,
};

// The server ------------------------------------------------------------------------------------------------------------

class Refused extends Error {
  constructor(status, problem) { super(problem.detail ? `${problem.title} (${problem.detail})` : problem.title); this.status = status; this.problem = problem; }
}

async function ask(address, options = {}) {
  const answer = await fetch(address, { cache: "no-store", credentials: "same-origin", ...options });
  if (answer.status === 204) return null;
  const body = await answer.json().catch(() => ({ title: `The server answered ${answer.status}.` }));
  if (!answer.ok) throw new Refused(answer.status, body);
  return body;
}

const post = (address, body) => ask(address, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
const quoted = (name) => `"${name.replaceAll('"', '""')}"`;

// Beginning -------------------------------------------------------------------------------------------------------------

async function begin() {
  const handed = new URLSearchParams(location.hash.slice(1)).get("key");
  if (handed) {
    history.replaceState(null, "", location.pathname);   // A key does not stay in the address, nor in the history.
    try { await post("session", { credential: handed }); } catch { /* the form says what is wrong */ }
  }
  try {
    await status();
  } catch (refused) {
    if (refused.status === 401) return signIn();
    say("connecting", "Server away");
    setTimeout(begin, 1500);
    return;
  }
  $("sign-in").hidden = true;
  $("main").hidden = false;
  await listTables();
  follow();
  page.polling ??= setInterval(() => status().catch(() => {}), STATUS_EVERY);
}

function signIn(problem = "") {
  stop();
  say("out", "Signed out");
  $("main").hidden = $("health").hidden = $("you").hidden = true;
  $("sign-in").hidden = false;
  $("sign-in-problem").textContent = problem;
  $("credential").focus();
}

$("sign-in-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    await post("session", { credential: $("credential").value.trim() });
    $("credential").value = "";
    forget();
    begin();
  } catch (refused) {
    $("sign-in-problem").textContent = refused.status ? refused.message : "The server cannot be reached.";
  }
});

$("sign-out").addEventListener("click", async () => {
  await ask("session", { method: "DELETE" }).catch(() => {});
  forget();
  signIn();
});

function forget() {
  Object.assign(page, { cursor: null, table: null, at: null, status: null, waiting: [], tables: [] });
  for (const kept of [page.seen, page.counts, page.fresh, page.times]) kept.clear();
  $("feed").replaceChildren();
  $("tables").replaceChildren();
  $("table").tHead.replaceChildren();
  $("table").tBodies[0].replaceChildren();
  $("rows-title").textContent = "Rows";
  $("search").value = page.search = "";
  $("spoken").textContent = "";
  $("time").hidden = true;
  rowsNote("");
}

function stop() { page.source?.close(); page.source = null; clearTimeout(page.retry); }

// Health ----------------------------------------------------------------------------------------------------------------

async function status() {
  const s = await ask("status");
  page.status = s;
  $("database").textContent = s.database;
  document.title = `${s.database} · VerityDB`;
  $("health").hidden = $("you").hidden = false;
  $("you-name").textContent = s.you.name ? `${s.you.name} · ${s.you.role}` : s.you.role;
  $("h-offset").textContent = s.offset < 0 ? "none yet" : s.offset.toLocaleString();
  mark($("h-file"), s.pending > 0 ? `${s.pending} behind` : s.pending < 0 ? "ahead of its log" : s.encrypted ? "in step, encrypted" : "in step", s.pending < 0);
  const full = s.log_bytes_free < FREE_MIN;
  const end = full ? `${size(s.log_bytes_free)} left` : s.torn ? "unfinished end" : "whole";
  mark($("h-log"), `${size(s.log_bytes)}, ${end}${s.generation ? `, generation ${s.generation}` : ""}`, s.torn || full);
  mark($("h-quorum"), ...quorum(s));
  $("h-hash").textContent = `${s.head_hash.slice(0, 8)}…${s.head_hash.slice(-8)}`;
  $("h-hash").title = s.head_hash;
  moved(s.offset);
  return s;
}

function quorum({ quorum: q, offset }) {
  if (q.members === null) return [`a copy of ${q.stream}`, false];
  const late = q.durable < offset ? `, durable to ${q.durable.toLocaleString()}` : ", durable";
  return [`${q.reached} of ${q.members}${q.reached < q.needed ? `, ${q.needed} needed` : late}`, q.reached < q.needed];
}

function mark(place, text, bad) { place.textContent = text; place.classList.toggle("bad", Boolean(bad)); }

function size(bytes) {
  const units = ["bytes", "KiB", "MiB", "GiB", "TiB"];
  let n = 0;
  while (bytes >= 1024 && n < units.length - 1) { bytes /= 1024; n += 1; }
  return `${n ? bytes.toFixed(1) : bytes} ${units[n]}`;
}

function say(state, text) { $("state").dataset.state = state; $("state-text").textContent = text; }

// The stream ------------------------------------------------------------------------------------------------------------

function follow() {
  stop();
  const address = new URL("events", location.href);
  address.searchParams.set("images", "1");
  // A browser resumes by itself, by Last-Event-ID; only where it has given up does the page say where it was.
  if (page.cursor !== null) address.searchParams.set("since", page.cursor);
  else if (page.status.you.history) address.searchParams.set("since", Math.max(-1, page.status.offset - EARLIER));
  const source = page.source = new EventSource(address);
  source.addEventListener("ready", (event) => { keep(event); say("live", "Live"); });
  source.addEventListener("change", (event) => { keep(event); arrived("change", JSON.parse(event.data), event.lastEventId); });
  source.addEventListener("schema", (event) => { keep(event); arrived("schema", JSON.parse(event.data), event.lastEventId); listTables(); });
  source.addEventListener("cleared", (event) => { keep(event); arrived("cleared", JSON.parse(event.data), event.lastEventId); refreshSoon(); });
  source.addEventListener("resync", (event) => { keep(event); page.seen.clear(); arrived("resync", JSON.parse(event.data), event.lastEventId); listTables(); });
  source.addEventListener("problem", (event) => { if (JSON.parse(event.data).status === 401) signIn("Your key or token has expired."); });
  source.onerror = () => {
    if (page.source !== source) return;
    say("connecting", "Reconnecting");
    if (source.readyState !== EventSource.CLOSED) return;   // The browser tries again by itself.
    stop();
    page.retry = setTimeout(async () => {
      try { await status(); follow(); } catch (refused) {
        if (refused.status === 401) signIn("Sign in again.");
        else { say("connecting", "Server away"); page.retry = setTimeout(() => begin(), 1500); }
      }
    }, 1000);
  };
}

function keep(event) { if (event.lastEventId) page.cursor = event.lastEventId; }

function arrived(kind, change, id) {
  if (page.seen.has(id) && kind !== "resync") return;
  page.seen.add(id);
  const live = change.time === undefined || Date.now() - Date.parse(change.time) < 15000;
  if (change.time) page.times.set(change.offset, change.time);
  if (kind === "change") {
    page.counts.set(change.table, (page.counts.get(change.table) ?? 0) + 1);
    countShown(change.table);
    if (page.table?.name === change.table) {
      if (live) page.fresh.add(JSON.stringify(change.row_id));
      if (page.at === null) refreshSoon();
    }
  }
  moved(change.offset);
  if (page.paused) {
    page.waiting.push([kind, change, id]);
    $("pause").textContent = `Go on (${page.waiting.length})`;
    return;
  }
  show(kind, change, id, live);
}

function show(kind, change, id, live) {
  const item = kind === "change" ? changeItem(change) : noteItem(kind, change);
  item.dataset.id = id;
  item.classList.toggle("fresh", live);
  item.hidden = !matches(item);
  $("feed").prepend(item);
  while ($("feed").children.length > SHOWN_MAX) $("feed").lastChild.remove();
  $("no-changes").hidden = true;
  if (live && kind === "change") $("spoken").textContent = `${change.action} in ${change.table}, offset ${change.offset}`;
}

function changeItem(change) {
  const item = element("li", `change ${change.action}`);
  const what = element("div", "what");
  what.append(element("span", "tag", change.action), element("strong", "", change.table));
  what.append(element("span", "mono", rowId(change.row_id)), element("span", "offset", `#${change.offset}`));
  item.append(what, who(change));
  const diff = element("dl", "diff");
  const before = change.before ?? {}, after = change.after ?? {};
  for (const name of change.changed) {
    const value = element("dd");
    if (change.before) value.append(shown(before[name], "del"));
    if (change.before && change.after) value.append(element("span", "to", "→"));
    if (change.after) value.append(shown(after[name], "ins"));
    if (!change.before && !change.after) value.textContent = "changed in place";
    diff.append(element("dt", "", name), value);
  }
  if (!change.changed.length) diff.append(element("dt"), element("dd", "null", "written again, no value changed"));
  item.append(diff);
  if (page.status.you.history && page.status.you.query && change.offset > 0) {
    const look = element("button", "quiet", "Table before this");
    look.type = "button";
    look.addEventListener("click", () => { select(change.table); moveTo(change.offset - 1); });
    item.append(look);
  }
  return item;
}

function noteItem(kind, change) {
  const item = element("li", `change ${kind}`);
  const what = element("div", "what");
  const words = kind === "resync" ? change.why : kind === "cleared" ? `all rows of ${change.table}`
    : ["created", "altered", "dropped"].filter((verb) => change[verb].length).map((verb) => `${verb} ${change[verb].join(", ")}`).join("; ");
  what.append(element("span", "tag", kind), element("strong", "", words), element("span", "offset", `#${change.offset}`));
  item.append(what);
  if (change.time) item.append(who(change));
  return item;
}

function who(change) {
  const line = element("p", "who");
  if (change.actor) line.append(element("b", "", change.actor), " · ");
  const time = element("time", "", when(change.time));
  time.dateTime = change.time;
  line.append(time);
  if (change.reason) line.append(` · ${change.reason}`);
  return line;
}

$("pause").addEventListener("click", () => {
  page.paused = !page.paused;
  $("pause").setAttribute("aria-pressed", String(page.paused));
  $("pause").textContent = page.paused ? "Go on" : "Pause";
  if (!page.paused) for (const [kind, change, id] of page.waiting.splice(0)) show(kind, change, id, false);
});

// Tables and rows -------------------------------------------------------------------------------------------------------

async function listTables() {
  let found;
  try { found = (await ask("tables")).tables; } catch { return; }
  page.tables = found;
  $("no-tables").hidden = found.length > 0;
  $("tables").replaceChildren(...found.map((table) => {
    const button = element("button");
    button.type = "button";
    button.dataset.table = table.name;
    const name = element("span", "", table.name);
    if (table.kind === "view") name.append(" ", element("span", "kind", "view"));
    button.append(name, element("span", "count"));
    button.addEventListener("click", () => select(table.name));
    const item = element("li");
    item.append(button);
    return item;
  }));
  found.forEach((table) => countShown(table.name));
  const known = found.find((table) => table.name === page.table?.name);
  const first = found.find((table) => page.counts.has(table.name)) ?? found[0];
  if (known || first) select((known ?? first).name);
  else { page.table = null; rowsNote(""); }
}

function countShown(name) {
  for (const button of document.querySelectorAll("#tables button")) {
    if (button.dataset.table !== name) continue;
    const count = page.counts.get(name);
    button.querySelector(".count").textContent = count ? `${count.toLocaleString()} changed` : "";
  }
}

function select(name) {
  page.table = page.tables.find((table) => table.name === name) ?? { name, columns: [], key: [] };
  for (const button of document.querySelectorAll("#tables button")) button.setAttribute("aria-current", String(button.dataset.table === name));
  $("rows-title").textContent = name;
  $("time").hidden = !(page.status.you.history && page.status.you.query && page.status.offset > 0);
  load();
}

function refreshSoon() { clearTimeout(page.refresh); page.refresh = setTimeout(load, 120); }

async function load() {
  const table = page.table, number = ++page.asked;
  if (!table) return;
  if (!page.status.you.query) return rowsNote("Your role sees changes as they are committed, and may not query.");
  let columns = table.columns, where = "", parameters = [];
  try {
    if (page.at !== null) {
      // The table may have had other columns then.
      const then = (await ask(`tables?at=${page.at}`)).tables.find((one) => one.name === table.name);
      if (number !== page.asked) return;
      if (!then) return rowsNote(`There was no table ${table.name} at offset ${page.at}.`);
      columns = then.columns;
    }
    if (page.search && columns.length) {
      where = ` WHERE ${columns.map((name) => `CAST(${quoted(name)} AS TEXT) LIKE ? ESCAPE '!'`).join(" OR ")}`;
      parameters = columns.map(() => `%${page.search.replace(/[!%_]/g, "!$&")}%`);
    }
    const order = table.key.filter((name) => columns.includes(name)).map((name) => `${quoted(name)} DESC`).join(", ");
    const sql = `SELECT * FROM ${quoted(table.name)}${where}${order ? ` ORDER BY ${order}` : ""} LIMIT ${ROWS + 1}`;
    const answer = await post("query", page.at === null ? { sql, parameters } : { sql, parameters, at: page.at });
    if (number === page.asked) rowsShown(table, answer);
  } catch (refused) {
    if (number !== page.asked) return;
    if (refused.status) rowsNote(refused.message);
  }
}

function rowsShown(table, answer) {
  const more = answer.rows.length > ROWS, rows = answer.rows.slice(0, ROWS);
  const numeric = answer.columns.map((_, n) => rows.length > 0 && rows.every((row) => row[n] === null || typeof row[n] === "number"));
  const head = element("tr");
  answer.columns.forEach((name, n) => {
    const cell = element("th", "", name);
    cell.scope = "col";
    head.append(cell);
  });
  const places = table.key.map((name) => answer.columns.indexOf(name));
  const body = rows.map((row) => {
    const line = element("tr");
    const id = JSON.stringify(places.length === 1 ? row[places[0]] : places.map((place) => row[place]));
    if (places.length && page.fresh.has(id) && page.at === null) line.classList.add("fresh");
    row.forEach((value, n) => {
      const cell = element("td", numeric[n] ? "number" : "");
      cell.append(shown(value, "span"));
      if (typeof value === "string") cell.title = value.slice(0, 500);
      line.append(cell);
    });
    return line;
  });
  page.fresh.clear();
  $("table").hidden = false;
  $("table").tHead.replaceChildren(head);
  $("table").tBodies[0].replaceChildren(...body);
  $("table").dataset.offset = answer.offset;
  $("rows-note").textContent = more ? `The first ${ROWS} rows; search for others.` : rows.length ? "" : page.search ? "No row has that in it." : "No rows.";
  $("as-of").textContent = page.at === null ? "" : `as of offset ${page.at}${page.times.has(page.at) ? `, ${when(page.times.get(page.at))}` : ""}`;
}

function rowsNote(text) {
  $("table").hidden = true;
  $("rows-note").textContent = text;
}

// Time ------------------------------------------------------------------------------------------------------------------

function moved(offset) {
  const slider = $("slider");
  if (offset <= Number(slider.max)) return;
  slider.max = offset;
  $("h-offset").textContent = offset.toLocaleString();
  if (page.at === null) slider.value = offset;
  if (page.table) $("time").hidden = !(page.status.you.history && page.status.you.query && offset > 0);
}

function moveTo(offset) {
  page.at = offset === null || offset >= Number($("slider").max) ? null : offset;
  $("slider").value = page.at ?? $("slider").max;
  const past = page.at !== null, time = page.times.get(page.at);
  $("slider-text").textContent = past ? `offset ${page.at}` : "now";
  $("slider").setAttribute("aria-valuetext", past ? `offset ${page.at}${time ? `, ${when(time)}` : ""}` : "now");
  $("time").dataset.past = $("grid").dataset.past = String(past);
  $("now").disabled = !past;
  refreshSoon();
}

$("slider").addEventListener("input", () => moveTo(Number($("slider").value)));
$("now").addEventListener("click", () => moveTo(null));

// Search ----------------------------------------------------------------------------------------------------------------

$("search").addEventListener("input", () => {
  page.search = $("search").value.trim();
  for (const item of $("feed").children) item.hidden = !matches(item);
  refreshSoon();
});

function matches(item) { return !page.search || item.textContent.toLowerCase().includes(page.search.toLowerCase()); }

// Words -----------------------------------------------------------------------------------------------------------------

function element(name, kind = "", text = "") {
  const made = document.createElement(name);
  if (kind) made.className = kind;
  if (text !== "") made.textContent = text;
  return made;
}

function shown(value, name) {
  if (value === undefined) return element(name, "special", "–");
  if (value === null) return element(name, "null", "NULL");
  if (typeof value !== "object") return element(name, "", value === "" ? "''" : String(value));
  if ("omitted" in value) return element(name, "special", `${value.omitted}, ${size(value.bytes)}`);
  if ("int" in value) return element(name, "", value.int);
  if ("blob" in value) return element(name, "special", `x'${value.blob.slice(0, 40)}${value.blob.length > 40 ? "…" : ""}'`);
  return element(name, "special", Object.values(value)[0]);
}

function rowId(id) {
  if (id === null) return "";
  return Array.isArray(id) ? `(${id.map((part) => (typeof part === "object" && part ? Object.values(part)[0] : part)).join(", ")})` : typeof id === "object" ? id.int : String(id);
}

function when(time) {
  const date = new Date(time), today = new Date().toDateString() === date.toDateString();
  return date.toLocaleString([], today ? { timeStyle: "medium" } : { dateStyle: "medium", timeStyle: "medium" });
}

// An address with a key, pasted where the page is open already, changes the page's address and loads nothing.
window.addEventListener("hashchange", () => { if (location.hash.startsWith("#key=")) location.reload(); });
begin();
