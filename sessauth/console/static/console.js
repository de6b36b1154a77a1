// Keeps a page current: the server sends its parts again, and only the differences are changed in place, so that
// focus, selection and scroll positions stay. Nothing is loaded from elsewhere, and no text becomes script.
"use strict";

(() => {
  const notice = document.getElementById("notice");
  const OVER = "Your login has ended. Load this page anew: it says how to go on.";
  let stream = null;
  let heardAt = Date.now();

  // An alert is read out whenever it changes, so its text has a fixed time and no running age.
  const say = (text) => {
    if (notice.textContent !== text) notice.textContent = text;
    notice.hidden = !text;
  };

  const silent = () => {
    const at = new Date(heardAt).toISOString().slice(0, 19).replace("T", " ");
    say(`The console does not answer. This page shows what was known at ${at} UTC.`);
  };

  const keyed = (node) => (node.nodeType === Node.ELEMENT_NODE ? node.id : "");

  const morph = (old, fresh) => {
    if (old.nodeType !== fresh.nodeType || old.nodeName !== fresh.nodeName || keyed(old) !== keyed(fresh)) {
      old.replaceWith(document.importNode(fresh, true));
      return;
    }
    if (old.nodeType === Node.TEXT_NODE) {
      if (old.nodeValue !== fresh.nodeValue) old.nodeValue = fresh.nodeValue;
      return;
    }
    if (old.nodeType !== Node.ELEMENT_NODE) return;
    for (const { name } of [...old.attributes]) {
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    }
    for (const { name, value } of fresh.attributes) {
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
    morphChildren(old, fresh);
  };

  const morphChildren = (old, fresh) => {
    const rows = new Map([...old.children].filter((each) => each.id).map((each) => [each.id, each]));
    let at = old.firstChild;
    for (const next of [...fresh.childNodes]) {
      const same = rows.get(keyed(next));
      if (same && same !== at) old.insertBefore(same, at);
      if (same) {
        at = same;
      } else if (at && keyed(at) && keyed(next) !== keyed(at)) {
        at = old.insertBefore(document.importNode(next, true), at);
        at = at.nextSibling;
        continue;
      }
      if (!at) {
        old.appendChild(document.importNode(next, true));
        continue;
      }
      const following = at.nextSibling;
      morph(at, next);
      at = following;
    }
    while (at) {
      const following = at.nextSibling;
      at.remove();
      at = following;
    }
  };

  // Times are UTC; the browser adds those of its zone, where it has another one. Parts that the server sends again
  // get theirs before they are compared, so that nothing changes back and forth.
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const clock = new Intl.DateTimeFormat("sv-SE", { dateStyle: "short", timeStyle: "medium" });

  const localise = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const utc = time.getAttribute("datetime").replace("T", " ").replace("Z", " UTC");
      time.title = zone === "UTC" ? utc : `${utc}, ${clock.format(new Date(time.dateTime))} ${zone}`;
    }
    for (const place of root.querySelectorAll(".local[data-at]")) {
      if (zone !== "UTC") place.textContent = `${clock.format(new Date(place.dataset.at))} ${zone}`;
    }
  };

  // Changes worth hearing are said when they come, and not more often than a person can follow.
  const SAID_EACH_MS = 10000;
  const status = document.getElementById("status");
  let saidAt = 0;
  let saying = null;

  const tell = () => {
    saying = null;
    const text = document.querySelector("[data-said]")?.dataset.said || "";
    if (text === status.textContent) return;
    saidAt = Date.now();
    status.textContent = text;
  };

  const replace = (id, html) => {
    const old = document.getElementById(id);
    if (!old) return;
    const parsed = new DOMParser().parseFromString(html, "text/html");
    localise(parsed);
    morphChildren(old, parsed.body);
    saying = saying || setTimeout(tell, Math.max(0, saidAt + SAID_EACH_MS - Date.now()));
  };

  const open = () => {
    if (stream || document.hidden) return;
    stream = new EventSource(location.pathname + location.search);
    for (const part of ["reach", "current"]) {
      stream.addEventListener(part, (event) => {
        heardAt = Date.now();
        say("");
        replace(part, JSON.parse(event.data));
        document.body.dataset.updates = String(Number(document.body.dataset.updates || 0) + 1);
      });
    }
    stream.addEventListener("over", () => {
      close();
      say(OVER);
    });
    stream.addEventListener("stopped", () => say("The console is stopping."));
    stream.onerror = () => {
      if (stream && stream.readyState === EventSource.CLOSED) {
        close();
        fetch(location.href, { headers: { accept: "text/html" } })
          .then((answer) => (answer.status === 401 ? say(OVER) : again()))
          .catch(again);
        return;
      }
      silent();
    };
  };

  const again = () => {
    silent();
    setTimeout(open, 2000);
  };

  const close = () => {
    if (stream) stream.close();
    stream = null;
  };

  // The address of a page without the login's prefix leads to the page of it. What a page stores is of its own
  // port alone; cookies are not.
  const KEPT = "sessauth-login";
  const base = document.body.dataset.base;
  const kept = localStorage.getItem(KEPT) || "";
  if (base) {
    localStorage.setItem(KEPT, base);
  } else if (location.pathname.startsWith(`${kept}/`)) {
    localStorage.removeItem(KEPT);
  } else if (/^\/[\w-]+$/.test(kept) && "refused" in document.body.dataset) {
    const path = location.pathname.startsWith("/login/") ? "/" : location.pathname;
    location.replace(kept + path + location.search);
  }

  localise(document);
  if ("live" in document.body.dataset) {
    // A browser has six connections to one place: pages that nobody looks at give theirs back.
    document.addEventListener("visibilitychange", () => (document.hidden ? close() : open()));
    window.addEventListener("pagehide", close);
    window.addEventListener("pageshow", open);
    open();
  }
})();
