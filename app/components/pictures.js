// Tiles of images and maps with one toolbar. Runs again whenever the data change.

const remembered = {
  get(name, otherwise) {
    try { return localStorage.getItem(`reid-lab ${name}`) ?? otherwise } catch { return otherwise }
  },
  set(name, value) {
    try { localStorage.setItem(`reid-lab ${name}`, value) } catch { /* then it is forgotten */ }
  },
}

function clear(node) {
  node.replaceChildren()
  return node
}

// ---- toolbar

function slider(root) {
  const label = make("label", "opacity")
  const input = make("input")
  Object.assign(input, { type: "range", min: 0, max: 1, step: 0.05, value: remembered.get("opacity", 0.65) })
  input.setAttribute("aria-label", "Opacity of the maps")
  const apply = () => root.style.setProperty("--opacity", input.value)
  input.oninput = () => { apply(); remembered.set("opacity", input.value) }
  apply()
  label.append(make("span", "", "Opacity"), input)
  return label
}

function smoothing(root) {
  const label = make("label", "smooth"), input = make("input")
  input.type = "checkbox"
  input.checked = remembered.get("smooth", "no") === "yes"
  const apply = () => root.classList.toggle("soft", input.checked)
  input.onchange = () => { apply(); remembered.set("smooth", input.checked ? "yes" : "no") }
  apply()
  label.title = "Blend neighbouring positions. Off, each shows exactly its own value."
  label.append(input, make("span", "", "Smooth"))
  return label
}

function toolbar(root, data, ranges, saves) {
  const bar = make("div", "toolbar")
  const maps = data.tiles.filter((tile) => tile.map)
  if (maps.some((tile) => tile.src !== null)) bar.append(slider(root))
  if (maps.length) bar.append(smoothing(root))
  bar.append(...colourBars(data, ranges), saves)
  return bar
}

// ---- one position under the pointer or the keyboard

function describe(picture, at, unit) {
  const { spec } = picture
  if (!at) return [spec.label, spec.note].filter(Boolean).join(" · ")
  const value = spec.map?.[at[0]]?.[at[1]]
  const worth = spec.map ? (value === null || value === undefined ? "blank" : `${number(value)} ${unit}`.trim()) : ""
  const mark = (spec.marks ?? []).find((each) => each.row === at[0] && each.column === at[1])?.text
  return [spec.label, `row ${at[0] + 1}, column ${at[1] + 1}`, mark, worth].filter(Boolean).join(" · ")
}

function cursor(picture, at) {
  const group = clear(picture.querySelector(".cursor"))
  if (!at) return
  group.append(outline(cellBox(picture.place, ...at), "cell"))
}

function explore(stage, tip, pictures, data, pick) {
  const state = stage.state
  let shown = null
  const hide = () => {
    if (shown) cursor(shown, null)
    shown = null
    tip.hidden = true
  }
  const show = (picture, at) => {
    if (shown && shown !== picture) cursor(shown, null)
    shown = picture
    cursor(picture, at)
    const text = describe(picture, at, data.unit)
    tip.hidden = !text
    tip.textContent = text
    const whole = stage.getBoundingClientRect(), box = picture.getBoundingClientRect()
    const spot = at ? middle(picture.place, ...at) : [picture.place.width / 2, 0]
    const x = box.left - whole.left + (spot[0] / picture.place.width) * box.width
    const y = box.top - whole.top + (spot[1] / picture.place.height) * box.height
    const below = y < 46 && at
    tip.classList.toggle("below", Boolean(below))
    const half = tip.offsetWidth / 2
    tip.style.left = `${Math.min(Math.max(x, half), Math.max(half, whole.width - half))}px`
    tip.style.top = `${y}px`
  }
  const under = (event) => {
    const picture = event.target.closest?.(".picture")
    if (!picture) return []
    const box = picture.getBoundingClientRect(), { width, height } = picture.place
    const x = ((event.clientX - box.left) / box.width) * width, y = ((event.clientY - box.top) / box.height) * height
    return [picture, positionAt(picture.place, x, y)]
  }
  const take = (picture, at) => {
    if (!data.pickable) return
    pick({ tile: Number(picture.dataset.tile), row: at?.[0] ?? null, column: at?.[1] ?? null })
  }
  stage.onpointermove = (event) => {
    const [picture, at] = under(event)
    picture ? show(picture, at) : hide()
  }
  stage.onpointerleave = hide
  stage.onclick = (event) => {
    const [picture, at] = under(event)
    if (!picture || (picture.place.rows && !at)) return
    move(picture, at, false)
    take(picture, at)
  }

  // One tab stop for all: arrows walk over positions and on into the next picture.
  function move(picture, at, look = true) {
    for (const other of pictures) other.tabIndex = other === picture ? 0 : -1
    state.tile = Number(picture.dataset.tile)
    state.at = at
    if (!look) return
    picture.focus({ preventScroll: false })
    show(picture, at)
    picture.setAttribute("aria-label", describe(picture, at, data.unit))
  }
  const across = () => {
    const top = pictures[0].getBoundingClientRect().top
    const row = pictures.filter((picture) => Math.abs(picture.getBoundingClientRect().top - top) < 2)
    return row.length || 1
  }
  stage.onkeydown = (event) => {
    const picture = pictures[state.tile]
    if (!picture || event.altKey || event.ctrlKey || event.metaKey) return
    const { rows, columns } = picture.place
    const at = rows ? state.at ?? picture.spec.picked ?? [0, 0] : null
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key]
    if (event.key === "Escape") return hide()
    if (event.key === "Enter" || event.key === " ") take(picture, at)
    else if (step) {
      const there = at && [at[0] + step[0], at[1] + step[1]]
      const inside = there && there[0] >= 0 && there[1] >= 0 && there[0] < rows && there[1] < columns
      if (inside) move(picture, there)
      else {
        const next = pictures[state.tile + step[0] * across() + step[1]]
        if (next) move(next, entered(next.place, at ?? [0, 0], step))
      }
    } else if (event.key === "PageDown" || event.key === "PageUp") {
      const next = pictures[state.tile + (event.key === "PageDown" ? 1 : -1)]
      if (next) move(next, entered(next.place, at ?? [0, 0], [0, 0]))
    } else return
    event.preventDefault()
    event.stopPropagation() // the page's own shortcuts use arrows as well
  }
  stage.onfocusin = (event) => {
    const picture = event.target.closest?.(".picture")
    if (picture && picture.matches(":focus-visible"))
      move(picture, picture.place.rows ? state.at ?? picture.spec.picked ?? [0, 0] : null)
  }
  stage.onfocusout = hide
  return move
}

// Where one comes in when one steps over the edge of the picture before.
function entered({ rows, columns }, at, [down, right]) {
  if (!rows) return null
  const row = down > 0 ? 0 : down < 0 ? rows - 1 : at[0]
  const column = right > 0 ? 0 : right < 0 ? columns - 1 : at[1]
  return [Math.min(row, rows - 1), Math.min(column, columns - 1)]
}

// ---- lines between tiles

function drawLinks(layer, links, pictures, stage) {
  const whole = stage.getBoundingClientRect()
  layer.setAttribute("viewBox", `0 0 ${whole.width} ${whole.height}`)
  const end = ([tile, row, column]) => {
    const picture = pictures[tile], box = picture.getBoundingClientRect()
    const [x, y] = middle(picture.place, row, column)
    return [box.left - whole.left + (x / picture.place.width) * box.width,
      box.top - whole.top + (y / picture.place.height) * box.height]
  }
  clear(layer)
  for (const link of [...links].sort((a, b) => (a.weight ?? 1) - (b.weight ?? 1))) {
    if (!pictures[link.from[0]] || !pictures[link.to[0]]) continue
    const [x1, y1] = end(link.from), [x2, y2] = end(link.to), weight = Math.min(1, Math.max(0, link.weight ?? 1))
    const group = shape("g", { class: "link", opacity: 0.45 + 0.55 * weight })
    const wide = 0.8 + 3.2 * weight
    group.append(shape("line", { x1, y1, x2, y2, class: "casing", "stroke-width": wide + 1.6 }))
    group.append(shape("line", { x1, y1, x2, y2, class: "line", "stroke-width": wide }))
    for (const [cx, cy] of [[x1, y1], [x2, y2]]) group.append(shape("circle", { cx, cy, r: 1.6 + 0.6 * wide, class: "end" }))
    if (link.text) group.append(shape("title", {}, link.text))
    layer.append(group)
  }
}

// ---- size of the tiles

function layout(grid, data) {
  const count = data.tiles.length
  const columns = data.columns ?? 0
  const widest = Math.max(...data.tiles.map((tile) => tile.size[1] / tile.size[0]), 0.3)
  const across = columns || count
  const height = count <= 2 ? 24 : across <= 5 ? 17 : across <= 8 ? 15 : 9.5 // rem
  const width = Math.min(height * widest, 34)
  grid.style.gridTemplateColumns = columns
    ? `repeat(${columns}, minmax(0, ${width}rem))`
    : `repeat(auto-fill, minmax(0, ${Math.max(4, width)}rem))`
  grid.classList.toggle("many", across > 8)
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root")
  const ranges = scales(data.tiles)
  const pictures = data.tiles.map((tile, index) => drawTile(tile, index, data.images, ranges[index]))
  const state = root.state ??= { tile: 0, at: null }
  const focused = root.contains(root.getRootNode().activeElement) && root.getRootNode().activeElement.closest(".stage")
  if (state.tile >= pictures.length) Object.assign(state, { tile: 0, at: null })
  pictures.forEach((picture, index) => {
    picture.tabIndex = index === state.tile ? 0 : -1
    picture.setAttribute("role", data.pickable ? "button" : "img")
    picture.setAttribute("aria-label", data.tiles[index].label || data.alt)
  })

  const grid = make("div", data.links.length ? "grid linked" : "grid"), stage = make("div", "stage"), tip = make("div", "tip")
  layout(grid, data)
  grid.append(...pictures.map((picture) => picture.whole))
  tip.hidden = true
  tip.setAttribute("aria-live", "polite")
  const links = shape("svg", { class: "links" })
  stage.append(grid, links, tip)
  stage.setAttribute("role", "group")
  stage.setAttribute("aria-label", data.pickable ? `${data.alt}. Arrow keys move, Enter picks.` : data.alt)
  stage.classList.toggle("pickable", data.pickable)
  Object.assign(stage, { state })
  const move = explore(stage, tip, pictures, data, (picked) => setTriggerValue("picked", picked))

  const composed = () => pictureOf(root, stage, pictures, data)
  const kinds = {
    PNG: () => savePng(composed(), data.file),
    SVG: () => saveSvg(composed(), data.file),
  }
  if (data.csv || data.tiles.some((tile) => tile.map)) {
    kinds.CSV = () => save(data.csv ?? mapsAsCsv(data.tiles), "text/csv", `${data.file}.csv`)
  }
  const bar = toolbar(root, data, ranges, saveButtons(kinds))
  root.replaceChildren(bar, stage)
  const overlapping = pictures.find((picture) => picture.place.overlap && picture.spec.map)
  if (overlapping) {
    const [size, stride] = overlapping.spec.window
    root.append(make("p", "hint", `Windows of ${size} pixels overlap, one every ${stride}: each colour stands at the middle of its window; the outline is the whole window.`))
  }
  const redraw = () => drawLinks(links, data.links, pictures, stage)
  root.watcher?.disconnect()
  root.watcher = new ResizeObserver(redraw)
  if (data.links.length) root.watcher.observe(stage)
  if (focused) move(pictures[state.tile], state.at)
  return () => root.watcher.disconnect()
}
