// The search page: shows the hits of the query in the URL. No libraries, nothing from other hosts.

const el = (id) => document.getElementById(id);
const STEPS = [
  ["decoding", "decoding"], ["descriptor", "descriptor"], ["search", "search"], ["rerank", "re-ranking"],
];
const SLOW = 4000; // milliseconds after which the page warns that a search is slow
const BARS = 20; // codewords in the chart

let status = null;
let query = null; // {id} | {vector} | {file}
let filters = {}; // field → [values] or {gte, lte}, of numbers or days
let running = null; // AbortController of the current search
let facetsRunning = null;
const previews = new Map(); // descriptor as it appears in the URL → the photo it was extracted from

// ---- the API --------------------------------------------------------------------------------------------------------

class Failure extends Error {
  constructor(problem) {
    super(problem.detail);
    Object.assign(this, problem);
  }
}

async function call(path, { json, body, signal, method } = {}) {
  const headers = json === undefined ? {} : { "Content-Type": "application/json" };
  if (body) headers["Content-Type"] = body.type || "application/octet-stream";
  let response;
  try {
    response = await fetch(path, {
      method: method ?? (json === undefined && !body ? "GET" : "POST"),
      headers, signal, body: json === undefined ? body : JSON.stringify(json),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure({
      title: "The server does not respond", status: 0, request_id: "",
      detail: "Check that deepterms serve is still running and that this device is online.",
    });
  }
  if (response.status === 401 && path !== "/v1/session") {
    await askForToken();
    return call(path, { json, body, signal, method });
  }
  if (!response.ok) {
    const problem = await response.json().catch(() => null);
    throw new Failure(problem ?? { title: "Server error", status: response.status, detail: "", request_id: "" });
  }
  return response.status === 204 ? null : response.json();
}

let tokenPromise = null;

function askForToken() {
  tokenPromise ??= new Promise((resolve) => {
    const dialog = el("token");
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.showModal();
    el("token-form").onsubmit = async (event) => {
      event.preventDefault();
      try {
        await call("/v1/session", { json: { token: el("token-value").value } });
        el("token-value").value = "";
        dialog.close();
        tokenPromise = null;
        resolve();
      } catch (failure) {
        el("token-wrong").textContent = failure.message;
      }
    };
  });
  return tokenPromise;
}

// ---- the URL: a query that can be shared ----------------------------------------------------------------------------

function toUrl() {
  const parts = new URLSearchParams();
  if (query?.id) parts.set("id", query.id);
  if (query?.vector) parts.set("v", quantize(query.vector));
  if (Object.keys(filters).length) parts.set("filter", JSON.stringify(filters));
  if (el("effort").value !== "100") parts.set("effort", el("effort").value);
  if (!el("rerank").checked) parts.set("rerank", "0");
  else if (el("candidates").value !== "200") parts.set("rerank", el("candidates").value);
  if (el("k").value !== "24") parts.set("k", el("k").value);
  return parts.size ? `#${parts}` : location.pathname;
}

function fromUrl() {
  const parts = new URLSearchParams(location.hash.slice(1));
  filters = {};
  try {
    filters = JSON.parse(parts.get("filter") ?? "{}");
  } catch { /* a truncated URL is a query without filters */ }
  el("effort").value = parts.get("effort") ?? 100;
  const rerank = parts.get("rerank") ?? "200";
  el("rerank").checked = rerank !== "0";
  if (rerank !== "0") pick(el("candidates"), rerank);
  pick(el("k"), parts.get("k") ?? "24");
  showControls();
  if (parts.get("id")) return { id: parts.get("id") };
  const vector = parts.get("v") && dequantize(parts.get("v"));
  return vector ? { vector } : null;
}

function pick(select, value) {
  if ([...select.options].some((option) => option.value === value)) select.value = value;
}

// As 8-bit integers, a 1,280-d descriptor fits into a URL; its cosines change by less than 1e-3.
function quantize(vector) {
  const floats = new Float32Array(bytesOf(vector).buffer);
  const most = floats.reduce((most, value) => Math.max(most, Math.abs(value)), 1e-30);
  const levels = Int8Array.from(floats, (value) => Math.round((value / most) * 127));
  return textOf(new Uint8Array(levels.buffer)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function dequantize(text) {
  try {
    const levels = new Int8Array(bytesOf(text.replaceAll("-", "+").replaceAll("_", "/")).buffer);
    return textOf(new Uint8Array(Float32Array.from(levels).buffer));
  } catch {
    return null;
  }
}

const bytesOf = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const textOf = (bytes) => btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));

// ---- searching ------------------------------------------------------------------------------------------------------

function options() {
  return {
    k: Number(el("k").value),
    rerank: el("rerank").checked && status?.vectors ? Number(el("candidates").value) : 0,
    effort: Number(el("effort").value) / 100,
  };
}

async function search({ push = true } = {}) {
  running?.abort();
  const own = (running = new AbortController());
  const { signal } = own;
  if (push && !query?.file) history.pushState(null, "", toUrl());
  showQuery();
  loadFacets();
  const slow = showWaiting();
  try {
    const response = await ask(signal);
    if (query?.file) {
      // From here on search by the descriptor: options can change without another upload, and the link can be shared.
      previews.set(quantize(response.vector), query.picture);
      query = { vector: response.vector, name: query.file.name };
      history.pushState(null, "", toUrl());
    }
    show(response);
  } catch (failure) {
    if (failure.name === "AbortError") return;
    if (!(failure instanceof Failure)) throw failure;
    showFailure(failure);
  } finally {
    clearTimeout(slow);
    if (running === own) endWaiting();
  }
}

function ask(signal) {
  const filter = Object.keys(filters).length ? filters : undefined;
  if (query?.file) {
    const parts = new URLSearchParams({ ...options(), split: true, vector: true });
    if (filter) parts.set("filter", JSON.stringify(filter));
    return call(`/v1/search/image?${parts}`, { body: query.file, signal });
  }
  if (query?.id) return call("/v1/search/id", { json: { id: query.id, ...options(), split: true, filter }, signal });
  if (query?.vector) {
    return call("/v1/search/vector", { json: { query: query.vector, ...options(), split: true, filter }, signal });
  }
  // No query yet: show what lies in a random direction.
  const json = { query: randomDirection(status.dimensions), k: options().k, rerank: 0, filter };
  return call("/v1/search/vector", { json, signal }).then((response) => ({ ...response, isStart: true }));
}

function randomDirection(dimensions) {
  const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
  return Array.from({ length: dimensions }, normal);
}

function searchFile(file) {
  if (!file.type.startsWith("image/")) {
    showFailure(new Failure({ title: "Not an image", detail: `${file.name} is not an image file.`, request_id: "" }));
    return;
  }
  if (file.size > status.image_bytes) {
    const detail = `The file has ${megabytes(file.size)}; the limit is ${megabytes(status.image_bytes)}.`;
    showFailure(new Failure({ title: "Image too large", detail, request_id: "" }));
    return;
  }
  query = { file, picture: URL.createObjectURL(file) };
  search();
}

function searchLike(id) {
  query = { id };
  search();
  window.scrollTo({ top: 0, behavior: "instant" });
  el("results").focus({ preventScroll: true });
}

const megabytes = (bytes) => `${(bytes / 2 ** 20).toFixed(0)} MB`;

// ---- display --------------------------------------------------------------------------------------------------------

function node(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function showWaiting() {
  const hits = el("hits");
  el("warning").hidden = true;
  const empty = !hits.querySelector("[data-id]");
  if (empty) {
    el("state").replaceChildren();
    hits.classList.add("waiting");
    hits.replaceChildren(...Array.from({ length: 12 }, () => node("li", { "aria-hidden": "true" }, node("div", { class: "more" }))));
  } else hits.classList.add("stale");
  hits.setAttribute("aria-busy", "true");
  return setTimeout(() => {
    el("warning").textContent = "This is taking longer than usual: the cluster may be busy, or this is its first search.";
    el("warning").hidden = false;
  }, SLOW);
}

function endWaiting() {
  running = null;
  el("hits").classList.remove("waiting", "stale");
  el("hits").setAttribute("aria-busy", "false");
}

function photoOf(of) {
  if (of?.id) return thumbnail(of.id);
  return of?.picture ?? (of?.vector && previews.get(quantize(of.vector))) ?? null;
}

function showPreview(shown) {
  el("preview").hidden = !shown;
  el("drop").classList.toggle("filled", shown);
}

function showQuery() {
  const image = el("preview");
  const shown = photoOf(query);
  if (shown) {
    image.src = shown;
    image.alt = query.id ? `Query: ${query.id}` : "Query: your photo";
  }
  showPreview(Boolean(shown));
  el("query-name").hidden = !query;
  el("query-name").textContent = !query ? ""
    : query.id ? `More like ${query.id}`
    : query.file?.name ?? query.name ?? (photoOf(query) ? "Your photo" : "A descriptor from a shared link; its photo is not part of the link.");
}

const thumbnail = (id) => (status?.photographs ? `/v1/thumbnail?id=${encodeURIComponent(id)}` : null);

function show(response) {
  el("warning").hidden = !response.partial;
  if (response.partial) el("warning").textContent = "Part of the index did not respond, so results may be missing.";
  const total = STEPS.reduce((sum, [step]) => sum + (response.times[step] ?? 0), 0);
  const count = response.hits.length;
  el("bar").hidden = false;
  el("headline").textContent = response.isStart
    ? "A few photos to start with"
    : `${count || "No"} ${count === 1 ? "result" : "results"} in ${milliseconds(total)}`;
  el("share").hidden = Boolean(response.isStart);
  el("times").hidden = el("legend").hidden = Boolean(response.isStart) || !count;
  showTimes(response.times);
  el("state").replaceChildren(...(count ? [] : [emptyMessage()]));
  el("hits").classList.toggle("names", !status.photographs);
  el("hits").replaceChildren(...response.hits.map((hit) => card(hit, response)));
  el("live").textContent = response.isStart ? `${count} photos to start with.`
    : count ? `${count} results. The first is ${titleOf(response.hits[0])}.` : "No results.";
  document.title = query?.id ? `Like ${query.id}` : "Search by photo";
}

function emptyMessage() {
  const filtered = Object.keys(filters).length;
  return node("div", { class: "message" },
    node("h2", {}, "No results"),
    node("p", {}, filtered ? "No document matches these filters." : status.documents
      ? "No document shares a codeword with this query. More effort searches for more codewords."
      : "The index is empty. Add photos with: deepterms index NAME PHOTOS"),
    filtered ? node("button", { class: "quiet", type: "button", onclick: clearFilters }, "Clear filters") : null);
}

function showFailure(failure) {
  el("hits").replaceChildren();
  el("bar").hidden = true;
  el("warning").hidden = true;
  el("state").replaceChildren(node("div", { class: "message bad", role: "alert" },
    node("h2", {}, failure.title),
    node("p", {}, failure.detail),
    failure.request_id ? node("code", {}, `request ${failure.request_id}`) : null,
    query ? node("button", { class: "quiet", type: "button", onclick: () => (status ? search({ push: false }) : location.reload()) }, "Try again") : null));
}

const milliseconds = (value) => value < 0.05 ? "under 0.1 ms" : `${value < 10 ? value.toFixed(1) : Math.round(value).toLocaleString("en")} ms`;

function showTimes(times) {
  const taken = STEPS.filter(([step]) => times[step] !== null);
  const bar = el("times");
  const total = taken.reduce((sum, [step]) => sum + times[step], 0);
  bar.replaceChildren(...taken.map(([step]) => {
    const part = node("span", { class: step });
    part.style.flexGrow = (100 * times[step]) / (total || 1); // flex-grow values that sum to less than 1 would leave a gap
    return part;
  }));
  bar.setAttribute("aria-label", taken.map(([step, label]) => `${label} ${milliseconds(times[step])}`).join(", "));
  el("legend").replaceChildren(...taken.map(([step, label]) =>
    node("div", { class: step }, node("dt", {}, label), node("dd", {}, milliseconds(times[step])))));
}

const titleOf = (hit) => String(hit.metadata.title ?? hit.id.split("/").pop());
const scoreOf = (score, kind) => (kind === "cosine" ? score.toFixed(3) : Math.round(score).toLocaleString("en"));

function card(hit, response) {
  const title = titleOf(hit);
  const picture = hit.thumbnail
    ? node("img", { src: hit.thumbnail, alt: "", loading: "lazy", decoding: "async", onerror: (event) => event.target.replaceWith(placeholder("photo not available")) })
    : placeholder(title);
  const more = node("button", {
    class: "more", type: "button", onclick: () => searchLike(hit.id),
    "aria-label": response.isStart ? `Find photos like ${title}` : `Rank ${hit.rank}, ${response.score} ${scoreOf(hit.score, response.score)}: ${title}. More like this`,
  }, picture, node("span", { class: "hint", "aria-hidden": "true" }, "More like this"));
  const named = hit.thumbnail ? node("span", { class: "title", title: hit.id }, title) : null;
  const caption = response.isStart ? [named] : [
    node("span", { class: "rank", title: "rank" }, String(hit.rank)),
    node("span", { class: "score", title: response.score }, scoreOf(hit.score, response.score)),
    node("button", { class: "ask-why", type: "button", "aria-label": `Why this result: ${title}`, onclick: () => why(hit, response) }, "why?"),
    named,
  ];
  return node("li", { "data-id": hit.id }, node("figure", {}, more, node("figcaption", {}, ...caption)));
}

const placeholder = (text) => node("span", { class: "gone" }, text);

// ---- why ------------------------------------------------------------------------------------------------------------

async function why(hit, found) {
  const body = el("why-body");
  el("why").showModal();
  if (found.query === null) {
    body.replaceChildren(node("p", {}, "No codewords were used. The filters keep so few documents that the descriptor of each was compared with the query exactly."));
    return;
  }
  body.replaceChildren(node("p", { class: "help" }, "Comparing codewords…"));
  const of = query.id ? { query_id: query.id } : { query: query.vector };
  try {
    const response = await call("/v1/explain", { json: { id: hit.id, ...of, effort: options().effort } });
    body.replaceChildren(...chart(hit, response));
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    body.replaceChildren(node("div", { class: "message bad", role: "alert" }, node("h2", {}, failure.title), node("p", {}, failure.detail)));
  }
}

function chart(hit, response) {
  const shown = response.matches.slice(0, BARS);
  const most = shown[0]?.product ?? 1;
  const small = (source, text) => (source
    ? node("img", { src: source, alt: text, onerror: (event) => event.target.replaceWith(placeholder(text)) }) : placeholder(text));
  const mine = photoOf(query);
  const rows = shown.map((match) => {
    const fill = node("div", { class: "fill" });
    fill.style.width = `${(100 * match.product) / most}%`;
    return node("tr", {},
      node("th", { scope: "row" }, match.codeword),
      node("td", { class: "bar" }, fill),
      node("td", {}, `${match.weight} × ${match.frequency} = ${match.product.toLocaleString("en")}`));
  });
  return [
    node("div", { class: "pair" }, small(mine, "query"), node("p", {},
      node("strong", {}, `${response.matches.length} of ${response.query_codewords} codewords in common`), node("br"),
      `Their products sum to ${response.score.toLocaleString("en")}, the score before re-ranking`,
      response.agrees ? ". The index computes the same score." : `. The index computes ${response.engine_score.toLocaleString("en")}.`), small(hit.thumbnail, titleOf(hit))),
    shown.length ? node("table", { class: "chart" },
      node("thead", {}, node("tr", {}, node("th", { scope: "col" }, "codeword"), node("th", { scope: "col" }, ""), node("th", { scope: "col" }, "query × document"))),
      node("tbody", {}, ...rows)) : node("p", {}, "They have no codewords in common."),
    response.matches.length > shown.length ? node("p", { class: "help" }, `and ${response.matches.length - shown.length} smaller products`) : "",
  ];
}

// ---- filters and options --------------------------------------------------------------------------------------------

async function loadFacets() {
  facetsRunning?.abort();
  const own = (facetsRunning = new AbortController());
  const asked = Object.keys(filters).length ? `?filter=${encodeURIComponent(JSON.stringify(filters))}` : "";
  try {
    const { facets } = await call(`/v1/facets${asked}`, { signal: own.signal });
    const focused = document.activeElement?.dataset?.facet;
    el("facets").replaceChildren(...facets.map((facet) => (facet.least === null ? valueFacet(facet) : rangeFacet(facet))));
    if (focused) document.querySelector(`[data-facet="${CSS.escape(focused)}"]`)?.focus();
  } catch (failure) {
    if (failure.name !== "AbortError" && !(failure instanceof Failure)) throw failure; // the search reports the error
  }
  el("clear").hidden = !Object.keys(filters).length;
}

function valueFacet(facet) {
  const chosen = Array.isArray(filters[facet.field]) ? filters[facet.field] : [];
  const counted = facet.values.map(([value]) => value);
  const values = [...facet.values, ...chosen.filter((value) => !counted.includes(value)).map((value) => [value, 0])];
  return node("fieldset", { class: "facet" }, node("legend", {}, facet.field),
    ...values.map(([value, count]) => node("label", {},
      node("input", {
        type: "checkbox", checked: chosen.includes(value), "data-facet": `${facet.field} ${value}`,
        onchange: (event) => choose(facet.field, event.target.checked ? [...chosen, value] : chosen.filter((other) => other !== value)),
      }),
      node("span", { title: String(value) }, String(value)), node("small", {}, count.toLocaleString("en")))),
    facet.more ? node("p", { class: "help" }, "and more") : null);
}

function rangeFacet(facet) {
  const chosen = filters[facet.field] ?? {};
  const isDate = typeof facet.least === "string";
  const kind = isDate ? { type: "date", min: facet.least, max: facet.most } : { type: "number", step: "any" };
  const bound = (name, label, end) => node("label", {}, label, node("input", {
    ...kind, placeholder: end, title: String(end), value: chosen[name], "data-facet": `${facet.field} ${name}`,
    onchange: (event) => {
      const next = { ...chosen };
      delete next[name];
      if (event.target.value !== "") next[name] = isDate ? event.target.value : Number(event.target.value);
      choose(facet.field, Object.keys(next).length ? next : []);
    },
  }));
  return node("fieldset", { class: "facet" }, node("legend", {}, facet.field),
    node("div", { class: "range" }, bound("gte", "from", facet.least), bound("lte", "to", facet.most)));
}

function choose(field, value) {
  filters = { ...filters, [field]: value };
  if (Array.isArray(value) && !value.length) delete filters[field];
  search();
}

function clearFilters() {
  filters = {};
  search();
}

function showControls() {
  el("effort-out").textContent = `${el("effort").value} %`;
  el("candidates").disabled = !el("rerank").checked || (status !== null && !status.vectors);
  el("rerank").disabled = status !== null && !status.vectors;
}

// ---- input ----------------------------------------------------------------------------------------------------------

function moveInGrid(event) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: 0, ArrowDown: 0, Home: -Infinity, End: Infinity };
  if (!(event.key in steps) || !event.target.classList.contains("more")) return;
  const all = [...el("hits").querySelectorAll(".more")];
  const columns = getComputedStyle(el("hits")).gridTemplateColumns.split(" ").length;
  const step = { ArrowUp: -columns, ArrowDown: columns }[event.key] ?? steps[event.key];
  const place = Math.min(Math.max(all.indexOf(event.target) + step, 0), all.length - 1);
  all[place]?.focus();
  event.preventDefault();
}

function listen() {
  el("file").addEventListener("change", (event) => {
    if (event.target.files[0]) searchFile(event.target.files[0]);
    event.target.value = "";
  });
  el("preview").addEventListener("error", () => showPreview(false)); // its file may no longer exist
  el("random").addEventListener("click", () => {
    query = null;
    search();
  });
  el("home").addEventListener("click", (event) => {
    event.preventDefault();
    query = null;
    filters = {};
    search();
  });
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // the fragment of the URL is the query
    el("results").focus();
  });
  el("clear").addEventListener("click", clearFilters);
  el("controls").addEventListener("submit", (event) => event.preventDefault());
  el("effort").addEventListener("input", showControls);
  for (const id of ["effort", "rerank", "candidates", "k"]) {
    el(id).addEventListener("change", () => {
      showControls();
      if (query) search();
    });
  }
  el("share").addEventListener("click", async () => {
    const done = await navigator.clipboard?.writeText(location.href).then(() => true, () => false);
    el("share").textContent = done ? "Copied" : "Copy it from the address bar";
    el("live").textContent = el("share").textContent;
    setTimeout(() => { el("share").textContent = "Copy link"; }, 2000);
  });
  el("hits").addEventListener("keydown", moveInGrid);
  el("why").addEventListener("click", (event) => { if (event.target === el("why")) el("why").close(); });
  window.addEventListener("popstate", () => {
    query = fromUrl();
    search({ push: false });
  });
  document.addEventListener("paste", (event) => {
    const file = [...(event.clipboardData?.files ?? [])][0];
    if (file && status?.images) searchFile(file);
  });
  let inside = 0;
  const dragged = (event) => status?.images && event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => {
    if (!dragged(event)) return;
    inside += 1;
    el("overlay").hidden = false;
  });
  document.addEventListener("dragleave", (event) => {
    if (dragged(event) && --inside <= 0) el("overlay").hidden = true;
  });
  document.addEventListener("dragover", (event) => { if (dragged(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    inside = 0;
    el("overlay").hidden = true;
    if (!dragged(event)) return;
    event.preventDefault();
    if (event.dataTransfer.files[0]) searchFile(event.dataTransfer.files[0]);
  });
}

async function start() {
  if (matchMedia("(max-width: 760px)").matches) el("options").open = false;
  query = fromUrl();
  try {
    status = await call("/v1/status");
  } catch (failure) {
    if (!(failure instanceof Failure)) throw failure;
    showFailure(failure);
    if (!query) el("state").firstElementChild.append(node("button", { class: "quiet", type: "button", onclick: () => location.reload() }, "Try again"));
    return;
  }
  el("name").textContent = status.name;
  el("status").textContent = `${status.documents.toLocaleString("en")} documents · ${status.engine} · ${status.encoder}`;
  if (!status.images) {
    document.querySelector("label[for=file]").hidden = el("file").hidden = true;
    el("invite").replaceChildren(node("strong", {}, "Choose a result to find similar photos"),
      node("span", {}, "This index does not record which extractor made its descriptors, so search by photo is not available."));
  }
  if (!status.vectors) {
    el("rerank").checked = false;
    el("rerank-help").textContent = "This index stores no descriptors to re-rank by.";
  }
  showControls();
  listen();
  search({ push: false });
}

start();
