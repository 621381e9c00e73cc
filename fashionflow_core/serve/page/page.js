"use strict";
const at = id => document.getElementById(id);
const list = at("videos"), look = at("look"), player = at("video"), photo = at("photo"), compare = at("compare");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const videos = new Map();  // by id, as the server describes them
const cards = new Map();
const starts = new Map();  // when the first video of a group was asked for
let show = "", open = null, drawn = "", oldest = null, about = {}, settling = 0;

async function ask(path, options = {}) {
  const answer = await fetch(path, options);
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) {
    if (answer.status === 401 && path !== "/session") signIn();
    const error = new Error(body.error?.message ?? `status ${answer.status}`);
    throw Object.assign(error, {status: answer.status, wait: Number(answer.headers.get("retry-after")) || 0});
  }
  return body;
}
const post = (path, value = {}) =>
  ask(path, {method: "POST", headers: {"Content-Type": "application/json"}, body: JSON.stringify(value)});
const say = text => { at("news").textContent = text; };
const address = (video, variant) => `/v1/videos/${encodeURIComponent(video.id)}/content?variant=${variant}`;
function element(name, values = {}, ...children) {
  const made = Object.assign(document.createElement(name), values);
  made.append(...children);
  return made;
}

// Names and states.
const title = video => video.prompt || video.photo_name || video.id;
function label(video) {
  const many = [...videos.values()].filter(one => one.group === video.group).length > 1;
  return many ? `${title(video)}, variation ${place(video)}` : title(video);
}
const family = video => [...videos.values()].filter(one => one.group === video.group)
  .sort((a, b) => a.created - b.created);
const place = video => family(video).indexOf(video) + 1;
function state(video) {
  if (video.status === "queued") return "Waiting";
  if (video.status === "in_progress") return `Being made, ${video.progress} %`;
  if (video.status === "failed") return `Failed: ${video.error?.message ?? ""}`;
  return {approved: "Approved", rejected: "Rejected"}[video.review] ?? "To review";
}
function fits(video) {
  if (!show) return true;
  if (show === "failed") return video.status === "failed";
  if (video.status !== "completed") return show === "open" && video.status !== "failed";
  return show === "open" ? !video.review : video.review === show;
}
const shown = () => [...list.children].map(card => videos.get(card.dataset.id)).filter(video => video && fits(video));

// The list.
function draw(video) {
  let card = cards.get(video.id);
  if (!card) {
    const picture = element("img", {alt: "", loading: "lazy"});
    // Photos of some kinds, such as HEIC, are not shown by every browser.
    picture.addEventListener("error", () => { picture.hidden = true; });
    const button = element("button", {type: "button"}, picture);
    button.addEventListener("click", () => openVideo(video.id));
    const bar = element("progress", {max: 100});
    const text = element("div", {className: "text"}, element("b"), element("span", {className: "state"}), bar);
    card = element("li", {}, button, text);
    card.dataset.id = video.id;
    cards.set(video.id, card);
    const next = [...list.children].find(other => before(video, videos.get(other.dataset.id)));
    list.insertBefore(card, next ?? null);
  }
  const done = video.status === "completed", picture = card.querySelector("img");
  const source = address(video, done ? "thumbnail" : "photo");
  if (picture.getAttribute("src") !== source) { picture.hidden = false; picture.src = source; }
  picture.classList.toggle("wait", !done);
  card.className = `card ${video.status === "failed" ? "failed" : video.review}`;
  card.querySelector("b").textContent = label(video);
  card.querySelector("b").title = label(video);
  card.querySelector(".state").textContent = state(video);
  const bar = card.querySelector("progress");
  bar.hidden = done || video.status === "failed";
  bar.value = video.progress;
  bar.setAttribute("aria-label", `Progress of ${label(video)}`);
  const button = card.querySelector("button");
  button.disabled = !done;
  button.setAttribute("aria-label", `${label(video)}: ${state(video)}`);
  card.hidden = !fits(video);
}
// Newest first; variations of one photo in their order.
function before(one, other) {
  if (!other) return true;
  const start = starts.get(one.group), otherStart = starts.get(other.group);
  return start === otherStart ? one.created < other.created : start > otherStart;
}
function settle() {
  settling = 0;
  const all = [...videos.values()], waiting = all.filter(video => video.status === "queued").length;
  const making = all.filter(video => video.status === "in_progress").length;
  const visible = shown().length;
  at("count").textContent = `${visible} of ${all.length} shown` + (waiting + making ? `; ${making} being made, ${waiting} waiting` : "");
  at("none").hidden = visible > 0;
}
const settleSoon = () => { settling ||= setTimeout(settle, 50); };
function change(video) {
  const old = videos.get(video.id);
  if (old && video.version < old.version) return;  // an answer that was overtaken by an event
  videos.set(video.id, video);
  starts.set(video.group, Math.min(video.created, starts.get(video.group) ?? Infinity));
  draw(video);
  if (!old) for (const one of family(video)) draw(one);
  if (old && old.status !== video.status && ["completed", "failed"].includes(video.status)) say(`${label(video)}: ${state(video)}`);
  const looked = videos.get(open);
  if (looked && (looked === video || (looked.group === video.group && old?.status !== video.status))) fill(looked);
  settleSoon();
}
function forget(id) {
  videos.delete(id);
  cards.get(id)?.remove();
  cards.delete(id);
  if (open === id) look.close();
  settleSoon();
}
async function load() {
  const found = await ask(`/v1/videos?limit=100${oldest ? `&after=${encodeURIComponent(oldest)}` : ""}`);
  for (const video of found.data) change(video);
  oldest = found.last_id ?? oldest;
  at("more").hidden = !found.has_more;
  settle();
}
function listen() {
  const source = new EventSource("/v1/events");
  source.addEventListener("video", event => change(JSON.parse(event.data)));
  source.addEventListener("deleted", event => forget(JSON.parse(event.data).id));
  // The list is asked for once events come, and again after a break, so that nothing is missed in between.
  source.addEventListener("open", () => { oldest = null; load().catch(tell); });
}

// Sending photos: two at a time, and again when the queue is full.
const pending = [];
let sending = 0, sent = 0;
function enqueue(files) {
  const settings = new Map();
  const extra = {};
  if (at("motion").value) extra.motion = at("motion").value;
  if (at("amount").value) extra.motion_amount = Number(at("amount").value);
  if (at("loop").checked) extra.loop = true;
  if (Object.keys(extra).length) settings.set("extra", JSON.stringify(extra));
  for (const name of ["seconds", "size", "variations"]) if (at(name).value) settings.set(name, at(name).value);
  for (const file of files) pending.push({file, settings, key: crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`});
  while (sending < 2 && pending.length) sendNext();
}
async function sendNext() {
  sending++;
  const item = pending.shift();
  const status = () => { at("sending").textContent = pending.length + sending ? `Sending ${pending.length + sending} photos` : sent ? `${sent} photos were sent` : ""; };
  status();
  for (;;) {
    const form = new FormData();
    for (const [name, value] of item.settings) form.set(name, value);
    form.set("input_reference", item.file, item.file.name);
    try {
      // The key makes sure that a photo whose answer was lost on the way is not made twice.
      const made = await ask("/v1/videos", {method: "POST", body: form, headers: {"Idempotency-Key": item.key}});
      for (const id of made.variations ?? [made.id]) if (!videos.has(id)) change(id === made.id ? made : await ask(`/v1/videos/${id}`));
      sent++;
      break;
    } catch (error) {
      if (error.status === 429 || error.status === undefined) {
        at("sending").textContent = "The queue is full; the rest is sent as soon as there is room";
        await new Promise(resolve => setTimeout(resolve, 1000 * Math.min(10, error.wait || 2)));
        continue;
      }
      at("refused").append(element("li", {textContent: `${item.file.name}: ${error.message}`}));
      break;
    }
  }
  sending--;
  status();
  if (pending.length) sendNext();
}
const drop = at("drop");
at("files").addEventListener("change", event => { enqueue(event.target.files); event.target.value = ""; });
for (const name of ["dragenter", "dragover"]) document.addEventListener(name, event => {
  event.preventDefault();
  drop.classList.add("over");
});
document.addEventListener("dragleave", event => { if (!event.relatedTarget) drop.classList.remove("over"); });
document.addEventListener("drop", event => {
  event.preventDefault();
  drop.classList.remove("over");
  if (!at("make").hidden) enqueue(event.dataTransfer.files);
});
at("controls").addEventListener("submit", event => event.preventDefault());

// The large view.
function openVideo(id) {
  const video = videos.get(id);
  if (!video || video.status !== "completed") return;
  open = id;
  compare.classList.remove("alone");
  photo.src = address(video, "photo");
  player.src = address(video, "video");
  player.poster = address(video, "thumbnail");
  fill(video);
  if (!look.open) look.showModal();
  at("look-title").focus({preventScroll: true});
  if (!calm.matches) player.play().catch(() => {});
}
photo.addEventListener("error", () => compare.classList.add("alone"));
function fill(video) {
  at("look-title").textContent = label(video);
  at("look-text").textContent = [state(video), ...video.warnings].join(". ");
  at("approve").setAttribute("aria-pressed", String(video.review === "approved"));
  at("reject").setAttribute("aria-pressed", String(video.review === "rejected"));
  at("again").hidden = !about.can_make;
  at("delete").hidden = video.id.startsWith("item_");
  at("get").href = address(video, "video");
  at("get").download = `${(video.photo_name || video.id).replace(/\.\w+$/, "").split("/").pop()}.mp4`;
  const rows = {Photo: video.photo_name, Caption: video.prompt, Size: video.size, Seconds: video.seconds, Seed: video.seed};
  at("details").replaceChildren(...Object.entries(rows).filter(([, value]) => value !== "" && value != null)
    .flatMap(([name, value]) => [element("dt", {textContent: name}), element("dd", {textContent: value})]));
  const others = family(video).filter(one => one.status === "completed");
  at("siblings").hidden = others.length < 2;
  const now = others.map(one => `${one.id} ${state(one)} ${one === video}`).join();
  if (now === drawn) return;  // a button that has the focus keeps it
  drawn = now;
  at("siblings").replaceChildren(...(others.length < 2 ? [] : others).map(one => {
    const button = element("button", {type: "button"}, element("img", {src: address(one, "thumbnail"), alt: ""}));
    button.setAttribute("aria-label", `Variation ${place(one)}: ${state(one)}`);
    button.setAttribute("aria-pressed", String(one.id === video.id));
    button.addEventListener("click", () => openVideo(one.id));
    return button;
  }));
}
async function review(verdict) {
  const video = videos.get(open);
  if (!video) return;
  change(await post(`/v1/videos/${video.id}/review`, {verdict: video.review === verdict ? "" : verdict}));
  say(`${label(video)}: ${state(videos.get(video.id))}`);
}
async function again() {
  const video = videos.get(open);
  if (!video || !about.can_make) return;
  change(await post(`/v1/videos/${video.id}/again`));
  say(`Another video of ${title(video)} is in the queue`);
}
function step(by) {
  const all = shown().filter(video => video.status === "completed");
  const next = all[all.findIndex(video => video.id === open) + by];
  if (next) openVideo(next.id);
}
const tell = error => say(error.message);
at("approve").addEventListener("click", () => review("approved").catch(tell));
at("reject").addEventListener("click", () => review("rejected").catch(tell));
at("again").addEventListener("click", () => again().catch(tell));
at("before").addEventListener("click", () => step(-1));
at("after").addEventListener("click", () => step(1));
at("close").addEventListener("click", () => look.close());
at("delete").addEventListener("click", async () => {
  const video = videos.get(open);
  if (!video || !confirm(`Delete ${label(video)}?`)) return;
  await ask(`/v1/videos/${video.id}`, {method: "DELETE"}).then(() => forget(video.id), tell);
});
at("split").addEventListener("input", event => compare.style.setProperty("--split", `${event.target.value}%`));
look.addEventListener("close", () => {
  player.pause();
  player.removeAttribute("src");
  player.load();
  const card = cards.get(open);
  open = null;
  (card?.querySelector("button") ?? list).focus();
});
document.addEventListener("keydown", event => {
  if (!look.open || event.altKey || event.ctrlKey || event.metaKey || event.target.matches("input, video")) return;
  const key = event.key.toLowerCase();
  const does = {a: () => review("approved"), r: () => review("rejected"), g: again, arrowright: () => step(1), arrowleft: () => step(-1)}[key];
  if (!does) return;
  event.preventDefault();
  Promise.resolve(does()).catch(tell);
});

// Filters.
for (const button of document.querySelectorAll("[data-show]")) button.addEventListener("click", () => {
  show = button.dataset.show;
  for (const other of document.querySelectorAll("[data-show]")) other.setAttribute("aria-pressed", String(other === button));
  const only = ["approved", "rejected"].includes(show) ? `&review=${show}` : "";
  at("zip").href = `/v1/download?format=zip${only}`;
  at("csv").href = `/v1/download?format=csv${only}`;
  for (const video of videos.values()) draw(video);
  settle();
});
at("more").addEventListener("click", () => load().catch(tell));

// Start.
function signIn() { if (!at("key-dialog").open) at("key-dialog").showModal(); }
at("key-dialog").addEventListener("cancel", event => event.preventDefault());
at("key-form").addEventListener("submit", async event => {
  event.preventDefault();
  try {
    start(await post("/session", {key: at("key").value.trim()}));
    at("key").value = "";
    at("key-dialog").close();
  } catch (error) {
    at("key-problem").textContent = error.message;
  }
});
function start(session) {
  if (!session.signed_in) { signIn(); return; }
  about = session;
  at("about").textContent = session.can_make ? `${session.model}: ${session.purpose}` : "Review of finished videos";
  at("make").hidden = !session.can_make;
  for (const name of ["motion-field", "amount-field", "loop-field", "size-field"]) at(name).hidden = !session.moves_photos;
  at("seconds").placeholder = session.seconds;
  at("seconds").max = session.video_seconds;
  listen();
}
ask("/session").then(start, tell);
