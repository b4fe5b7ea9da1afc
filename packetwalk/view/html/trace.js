(() => {
  "use strict";
  // Everything is found from the page: the steps are the rows of the tables, the packets the data beside them.
  const element = (tag, cls, text) => {
    const made = document.createElement(tag);
    if (cls) made.className = cls;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const us = (ns) => (ns < 1e7 ? (ns / 1e3).toFixed(1) + " us" : (ns / 1e9).toFixed(7) + " s");

  // Which header of `one` is which of `other`: by what they have in common inside, else outside.
  const partners = (one, other, kind) => {
    const short = Math.min(one.length, other.length);
    const same = (shift, back) => Array.from({ length: short }, (_, i) => i).every(
      (i) => kind(one[i + shift]) === kind(other[i + back]));
    const inside = same(one.length - short, other.length - short);
    if (!inside && !same(0, 0)) return one.map(() => undefined);
    const shift = inside ? other.length - one.length : 0;
    return one.map((_, i) => other[i + shift]);
  };

  const start = (root, data) => {
    root.classList.add("pw-live");
    const { headers, packets } = JSON.parse(data.textContent);
    const list = root.querySelector(".pw-list"), picture = root.querySelector("svg");
    const rows = [...root.querySelectorAll("tr[data-packet]")];
    const kind = (h) => headers[h][0];
    if (!rows.length) return;

    const stack = (packet, other, fresh, title) => {
      const side = element("div");
      if (!packet) return side;
      const [list, payload, size] = packet;
      side.append(element("div", "", title + (size ? ", " + size + " bytes" : "")));
      const twins = other ? partners(list, other[0], kind) : list;
      let inner = element("div", "pw-box", payload);
      for (let i = list.length - 1; i >= 0; i--) {
        const [name, length, fields] = headers[list[i]];
        const twin = twins[i] === undefined ? undefined : new Map(headers[twins[i]][2]);
        const mark = twin ? "" : fresh ? " pw-added" : " pw-gone";
        const box = element("div", "pw-box pw-" + name + mark);
        box.append(element("b", "", name), element("i", "", length));
        if (!twin) box.append(element("span", "pw-mark", fresh ? "+ new" : "\u2212 taken off"));
        const line = element("div", "pw-mono");
        for (const [field, value] of fields) {
          const changed = twin && twin.get(field) !== value;
          line.append(element("span", "pw-field" + (changed ? " pw-changed" : ""), field + " " + value), " ");
        }
        box.append(line, inner);
        inner = box;
      }
      side.append(inner);
      return side;
    };

    const bar = element("div", "pw-bar");
    const slider = element("input");
    Object.assign(slider, { type: "range", min: 0, max: rows.length - 1, value: 0 });
    slider.setAttribute("aria-label", "step");
    const count = element("span", "pw-count pw-mono");
    const side = element("div", "pw-side"), detail = element("div", "pw-detail");
    detail.setAttribute("aria-live", "polite");
    let now = 0;

    const show = (n) => {
      now = Math.max(0, Math.min(rows.length - 1, n));
      const row = rows[now], section = row.closest("details"), told = row.dataset;
      for (const lit of root.querySelectorAll(".pw-now")) lit.classList.remove("pw-now");
      section.open = true;
      row.classList.add("pw-now");
      for (const place of ["room", "wire"]) {
        const drawn = root.querySelector("svg [data-" + place + '="' + section.dataset[place] + '"]');
        if (drawn) drawn.classList.add("pw-now");
      }
      const line = row.getBoundingClientRect(), frame = list.getBoundingClientRect();
      if (line.top < frame.top || line.bottom > frame.bottom) list.scrollTop += line.top - frame.top - frame.height / 3;
      slider.value = now;
      count.textContent = now + 1 + " of " + rows.length;
      const [stage, dev, words] = [...row.cells].map((cell) => cell.textContent);
      const before = packets[told.before], after = packets[told.packet];
      const head = element("div", "pw-head");
      head.append(element("b", "", section.dataset.name), " ", element("b", "pw-mono", stage + " " + dev),
        element("span", "pw-when", "at " + us(+told.at) + ", took " + us(+told.took)));
      const packetsBox = element("div", "pw-packets");
      const same = before && told.before === told.packet;
      if (before && !same) packetsBox.append(stack(before, after, false, "in"));
      packetsBox.append(stack(after, same ? after : before || after, true, before && !same ? "out" : "packet, not changed"));
      const decided = element("div", "pw-decided pw-mono" + (row.classList.contains("pw-bad") ? " pw-bad" : ""), words || "\u2013");
      detail.replaceChildren(head, decided, packetsBox);
    };

    const moves = { ArrowLeft: () => now - 1, k: () => now - 1, ArrowRight: () => now + 1, j: () => now + 1,
      Home: () => 0, End: () => rows.length - 1 };
    const keys = (event) => {
      if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      event.stopPropagation();
      show(moves[event.key]());
    };
    for (const [sign, name, key] of [["|\u25c0", "first", "Home"], ["\u25c0", "back", "k"], ["\u25b6", "forward", "j"], ["\u25b6|", "last", "End"]]) {
      const button = element("button", "pw-" + name, sign);
      button.type = "button";
      button.title = name + " step (" + { Home: "home", k: "left, k", j: "right, j", End: "end" }[key] + ")";
      button.setAttribute("aria-label", name + " step");
      button.addEventListener("click", () => show(moves[key]()));
      bar.append(button);
    }
    bar.append(slider, count);
    slider.addEventListener("input", () => show(+slider.value));
    rows.forEach((row, n) => row.addEventListener("click", () => { show(n); root.focus({ preventScroll: true }); }));
    for (const room of root.querySelectorAll("svg [data-room]")) {
      room.addEventListener("click", () => {
        const next = rows.findIndex((row, n) => n > now && row.closest("details").dataset.room === room.dataset.room);
        const any = rows.findIndex((row) => row.closest("details").dataset.room === room.dataset.room);
        if (any >= 0) show(next >= 0 ? next : any);
      });
    }
    const alone = document.body.matches(".packetwalk-page") && document.querySelectorAll(".packetwalk").length === 1;
    (alone ? document : root).addEventListener("keydown", keys);
    list.before(bar);
    if (picture) side.append(picture);
    side.append(detail);
    list.after(side);
    show(0);
  };

  for (const root of document.querySelectorAll(".packetwalk:not(.pw-live)")) {
    const data = root.querySelector('script[type="application/json"]');
    if (data) start(root, data);
  }
})();
