"use strict";
// Script of the server's page and of a folder's page, in which all videos are embedded (`folder`) and no server is asked.
const at = id => document.getElementById(id);
const folder = at("folder") && JSON.parse(at("folder").textContent);
const list = at("videos"), look = at("look"), player = at("video"), animation = at("animation");
const photo = at("photo"), compare = at("compare");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const videos = new Map();  // by id, as the server describes them
const cards = new Map();
const families = new Map();  // videos of one photo: ids, by the id of their group
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
// An empty URL: no such file.
const address = (video, variant) => video.files ? video.files[variant]
  : `/v1/videos/${encodeURIComponent(video.id)}/content?variant=${variant}`;
function element(name, values = {}, ...children) {
  const made = Object.assign(document.createElement(name), values);
  made.append(...children);
  return made;
}

// Names and states.
const title = video => video.prompt || video.photo_name || video.id;
const label = video => family(video).length > 1 ? `${title(video)}, variation ${place(video)}` : title(video);
const family = video => [...families.get(video.group) ?? []].map(id => videos.get(id)).sort((a, b) => a.created - b.created);
const place = video => family(video).indexOf(video) + 1;
function state(video) {
  if (video.status === "queued") return "Waiting";
  if (video.status === "in_progress") return `Being made, ${video.progress} %`;
  if (video.status === "failed") return `Failed: ${video.error?.message ?? ""}`;
  return {approved: "Approved", rejected: "Rejected"}[video.review] ?? (folder ? "" : "To review");
}
const labelled = video => [label(video), state(video)].filter(Boolean).join(": ");
const score = (video, name) => video.scores?.[name] ?? -1;
function scores(video) {
  return Object.entries(about.scores ?? {}).filter(([key]) => key in (video.scores ?? {}))
    .map(([key, [name, unit, means]]) => [name, `${Number(video.scores[key].toPrecision(3))}${unit}`, means]);
}
function group(video) {
  if (video.status === "failed") return "failed";
  if (video.status !== "completed") return "";
  return video.flags?.length ? "flagged" : video.to_check ? "check" : "fine";
}
function belongs(video, show) {
  if (!show) return true;
  if (show === "open") return video.status !== "failed" && !video.review;
  return [group(video), video.review].includes(show);
}
function fits(video) {
  const words = at("find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const model = at("model").value, seed = at("seed").value.trim(), reason = at("reason").value;
  if (reason && !video.flags?.includes(reason)) return false;
  if (!belongs(video, show) || (model && video.model !== model) || (seed && String(video.seed) !== seed)) return false;
  if (!words.length) return true;
  const text = [video.photo_name, video.prompt, video.review, video.error?.message, ...video.warnings].join(" ").toLowerCase();
  return words.every(word => text.includes(word));
}
const shown = () => [...list.children].filter(card => !card.hidden).map(card => videos.get(card.dataset.id));

// The list.
function draw(video) {
  let card = cards.get(video.id);
  if (!card) {
    const picture = element("img", {alt: "", loading: "lazy", decoding: "async"});
    // Photos of some kinds, such as HEIC, are not shown by every browser.
    picture.addEventListener("error", () => {
      picture.hidden = true;
      if (videos.get(video.id)?.status === "failed") button.hidden = true;
    });
    const button = element("button", {type: "button", className: "shot"}, picture, element("span", {className: "flags"}));
    const bar = element("progress", {max: 100});
    const text = element("div", {className: "text"}, element("b"), element("span", {className: "name"}),
      element("div", {className: "warnings"}), element("span", {className: "state"}), element("span", {className: "scores"}), bar);
    card = element("li", {}, button, text);
    card.dataset.id = video.id;
    cards.set(video.id, card);
    const next = folder ? null : [...list.children].find(other => before(video, videos.get(other.dataset.id)));
    list.insertBefore(card, next ?? null);
  }
  const done = video.status === "completed", picture = card.querySelector("img"), button = card.querySelector(".shot");
  const source = address(video, done ? "thumbnail" : "photo");
  if (source && picture.getAttribute("src") !== source) { picture.hidden = false; picture.src = source; }
  picture.hidden ||= !source;
  picture.classList.toggle("wait", !done);
  card.className = `card ${video.status === "failed" ? "failed" : video.review}`;
  const name = card.querySelector("b"), state_ = card.querySelector(".state"), bar = card.querySelector("progress");
  name.textContent = name.title = label(video);
  card.querySelector(".name").textContent = video.prompt ? video.photo_name : "";
  card.querySelector(".flags").replaceChildren(...(video.flags ?? []).map(flag => element("i", {textContent: flag})));
  card.querySelector(".warnings").replaceChildren(
    ...video.warnings.map(line => element("span", {className: "warning", textContent: line})));
  state_.textContent = state(video);
  card.querySelector(".scores").textContent = scores(video).filter(([name]) => ["colour drift", "motion"].includes(name))
    .map(([name, value]) => `${name} ${value}`).join(" · ");
  bar.hidden = done || video.status === "failed";
  bar.value = video.progress ?? 0;
  bar.setAttribute("aria-label", `Progress of ${label(video)}`);
  button.disabled = !done;
  if (video.status === "failed" && !source) button.hidden = true;
  button.setAttribute("aria-label", labelled(video));
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
  const counts = name => all.filter(video => belongs(video, name)).length;
  const noticed = counts("flagged") + counts("check");
  const reviewed = all.some(video => video.review);
  for (const button of document.querySelectorAll("[data-show]")) {
    const name = button.dataset.show, number = counts(name);
    const needed = {"": true, fine: noticed && number, open: !folder || reviewed}[name] ?? (number || !(folder || "check flagged".includes(name)));
    button.hidden = !needed && name !== show;
    button.textContent = `${button.textContent.replace(/ \d+$/, "")}${name ? ` ${number}` : ""}`;
  }
  options("model", all.map(video => video.model));
  options("seed", all.map(video => video.seed));
  options("reason", all.flatMap(video => video.flags ?? []));
}
// Models, seeds and flags to choose from, where there are several.
function options(name, values) {
  const found = [...new Set(values.filter(value => value != null && value !== "").map(String))].sort();
  at(name).hidden = found.length < 2;
  const target = name === "seed" ? at("seeds") : at(name);
  for (const value of found.slice(0, 200)) {
    if (![...target.children].some(option => option.value === value)) target.append(element("option", {value, textContent: value}));
  }
}
const settleSoon = () => { settling ||= setTimeout(settle, 50); };
function change(video) {
  const old = videos.get(video.id);
  if (old && video.version < old.version) return;  // an answer that was overtaken by an event
  videos.set(video.id, video);
  families.set(video.group, (families.get(video.group) ?? new Set()).add(video.id));
  starts.set(video.group, Math.min(video.created, starts.get(video.group) ?? Infinity));
  draw(video);
  if (!old && !folder) for (const one of family(video)) draw(one);
  if (old && old.status !== video.status && ["completed", "failed"].includes(video.status)) say(labelled(video));
  const looked = videos.get(open);
  if (looked && (looked === video || (looked.group === video.group && old?.status !== video.status))) fill(looked);
  settleSoon();
}
function forget(id) {
  families.get(videos.get(id)?.group)?.delete(id);
  videos.delete(id);
  cards.get(id)?.remove();
  cards.delete(id);
  if (open === id) look.close();
  settleSoon();
}

// Videos in the list play on hover and focus, and are removed afterwards: a page may have thousands.
function play(shot) {
  const video = videos.get(shot.closest(".card").dataset.id);
  if (shot.querySelector(".moving") || shot.disabled || calm.matches) return;
  const moving = element(video.is_picture ? "img" : "video", {className: "moving", alt: ""});
  Object.assign(moving, {muted: true, loop: true, playsInline: true, src: address(video, "video")});
  shot.append(moving);
  moving.play?.().catch(() => {});
}
function rest(shot) {
  const moving = shot.querySelector(".moving");
  moving?.pause?.();
  moving?.removeAttribute("src");
  moving?.load?.();
  moving?.remove();
}
const shotOf = event => event.target.closest?.(".shot");
list.addEventListener("click", event => { const shot = shotOf(event); if (shot) openVideo(shot.closest(".card").dataset.id); });
list.addEventListener("pointerover", event => { const shot = shotOf(event); if (shot) play(shot); });
list.addEventListener("focusin", event => { const shot = shotOf(event); if (shot) play(shot); });
list.addEventListener("pointerout", event => {
  const shot = shotOf(event);
  if (shot && !shot.contains(event.relatedTarget) && shot !== document.activeElement) rest(shot);
});
list.addEventListener("focusout", event => { const shot = shotOf(event); if (shot && !shot.matches(":hover")) rest(shot); });

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
  source.addEventListener("open", () => {
    // Versions of a restarted server may begin lower: its clock may have been put back.
    for (const video of videos.values()) video.version = 0;
    oldest = null;
    load().catch(tell);
  });
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
      if ([429, 503, undefined].includes(error.status)) {
        at("sending").textContent = error.status === 429 ? "The queue is full; the rest is sent as soon as there is room"
          : `The server cannot take photos now (${error.message}); the rest is sent as soon as it can`;
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
  const source = address(video, "video"), beside = address(video, "photo");
  lay(video);
  alone(!beside);
  if (beside) photo.src = beside; else photo.removeAttribute("src");
  animation.hidden = !video.is_picture;
  player.hidden = Boolean(video.is_picture);
  (video.is_picture ? animation : player).src = source;
  player.poster = address(video, "thumbnail");
  fill(video);
  if (!look.open) look.showModal();
  look.scrollTop = 0;
  at("look-title").focus({preventScroll: true});
  if (!calm.matches && !video.is_picture) player.play().catch(() => {});
}
// Place the photo where the video shows it: left, top, width, height as shares of the video.
function lay(video) {
  const [across, down] = String(video.size).split("x").map(Number), box = video.photo_box;
  compare.style.setProperty("--wide", across / down || 0.8);
  photo.classList.toggle("placed", Boolean(box));
  ["left", "top", "width", "height"].forEach((side, at) => { photo.style[side] = box ? `${100 * box[at]}%` : ""; });
}
// Without a photo, or if it cannot be shown, only the video is shown.
function alone(is) {
  compare.classList.toggle("alone", is);
  at("splitter").hidden = is;
}
photo.addEventListener("error", () => alone(true));
function fill(video) {
  at("look-title").textContent = label(video);
  const flags = video.flags?.length ? `Flagged: ${video.flags.join(", ")}` : "";
  at("look-text").textContent = [state(video), flags, ...video.warnings].filter(Boolean).join(". ");
  at("approve").setAttribute("aria-pressed", String(video.review === "approved"));
  at("reject").setAttribute("aria-pressed", String(video.review === "rejected"));
  at("again").hidden = !about.can_make;
  at("delete").hidden = Boolean(folder) || video.id.startsWith("item_");
  at("get").href = address(video, "video");
  at("get").download = (video.photo_name || video.id).split("/").pop().replace(/\.\w+$/, "") + (video.suffix ?? ".mp4");
  const rows = video.details ?? Object.entries(
    {Photo: video.photo_name, Caption: video.prompt, Size: video.size, Seconds: video.seconds, Seed: video.seed});
  const terms = rows => rows.filter(([, value]) => value !== "" && value != null)
    .flatMap(([name, value, means]) => [element("dt", {textContent: name, title: means ?? ""}), element("dd", {textContent: value})]);
  at("reasons").replaceChildren(...(video.reasons ?? []).map(reason => because(video, reason)));
  at("scores").replaceChildren(...terms(scores(video)));
  at("details").replaceChildren(...terms(rows));
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
// Reason of a flag, with the frame that shows it.
function because(video, {flag, words, frame, seconds}) {
  const place = frame == null ? "" : ` (frame ${frame})`, item = element("li");
  if (place && !video.is_picture) {
    const still = element("video", {muted: true, playsInline: true, preload: "auto", src: `${address(video, "video")}#t=${seconds}`});
    const button = element("button", {type: "button", title: `Go to frame ${frame}`}, still);
    button.setAttribute("aria-label", `Go to frame ${frame}`);
    button.addEventListener("click", () => { player.pause(); player.currentTime = seconds; });
    item.append(button);
  }
  item.append(element("span", {textContent: `${flag}: ${words}${place}`}));
  return item;
}
async function review(verdict) {
  const video = videos.get(open);
  if (!video || folder) return;
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
  animation.removeAttribute("src");
  const card = cards.get(open);
  open = null;
  (card?.querySelector("button") ?? list).focus();
});
look.addEventListener("click", event => { if (event.target === look) look.close(); });
// Arrows go from card to card, and from video to video in the large view; / goes to the search field.
function walk(key, card) {
  const columns = getComputedStyle(list).gridTemplateColumns.split(" ").length;
  const by = {arrowright: 1, arrowleft: -1, arrowdown: columns, arrowup: -columns}[key];
  const all = [...list.children].filter(one => !one.hidden && one.querySelector(".shot:enabled:not([hidden])"));
  const next = by && all[all.indexOf(card) + by];
  next?.querySelector(".shot").focus();
  return Boolean(next);
}
document.addEventListener("keydown", event => {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const key = event.key.toLowerCase(), card = event.target.closest?.(".card");
  if (key === "escape" && event.target === at("find")) { at("find").value = ""; refilter(); return; }
  if (event.target.matches("input, select, video")) return;
  if (!look.open) {
    if (key === "/") at("find").focus(); else if (!card || !walk(key, card)) return;
    event.preventDefault();
    return;
  }
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
  refilter();
});
function refilter() {
  for (const [id, card] of cards) card.hidden = !fits(videos.get(id));
  settle();
}
for (const name of ["find", "model", "seed", "reason"]) at(name).addEventListener("input", refilter);
at("sort").addEventListener("change", () => {
  const all = [...cards.values()].map(card => [card, videos.get(card.dataset.id)]);
  const drift = at("sort").value, order = [...videos.keys()];
  all.sort(([, a], [, b]) => drift ? score(b, "garment_drift") - score(a, "garment_drift")
    : folder ? order.indexOf(a.id) - order.indexOf(b.id) : before(a, b) ? -1 : 1);
  list.append(...all.map(([card]) => card));
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
  at("verdicts").hidden = at("downloads").hidden = false;
  at("about").textContent = session.can_make ? `${session.model}: ${session.purpose}` : "Review of finished videos";
  at("make").hidden = !session.can_make;
  for (const name of ["motion-field", "amount-field", "loop-field", "size-field"]) at(name).hidden = !session.moves_photos;
  at("seconds").placeholder = session.seconds;
  at("seconds").max = session.video_seconds;
  listen();
}
// A folder's page.
function fillFolder() {
  about = folder;
  at("title").textContent = folder.title;
  at("about").textContent = folder.about;
  for (const video of folder.videos) change(video);
  settle();
  at("pages").hidden = folder.pages.length < 2;
  at("pages").append(...folder.pages.map((name, number) => {
    const link = element("a", {href: name, textContent: number + 1});
    if (number === folder.page) link.setAttribute("aria-current", "page");
    return link;
  }));
}
if (folder) fillFolder(); else ask("/session").then(start, tell);
