// A map of embeddings: pan, zoom, turn, lasso, pick. The points come once (this component); how they
// are painted comes from the legend (embedding_legend.js), so that recolouring never moves the view.

const maps = (globalThis.reidMaps ??= new Map()) // id -> { map, paint }: whichever comes first waits
const STILL = () => matchMedia("(prefers-reduced-motion: reduce)").matches
const UPRIGHT = [1, 0, 0, 0, 1, 0, 0, 0, 1]
const REACH = 14 // pixels within which a point is under the pointer
const KEYS = "Arrow keys: to the nearest point that way. Enter: choose it. Shift and arrow keys: draw a box from there; arrow keys move it, Enter selects what is in it. L: lasso. Z: zoom to the picked. Plus, minus, 0: zoom. Escape: clear."
const OTHER = " M: to the other map."

class EmbeddingMap {
  constructor(root, data, send) {
    Object.assign(this, { root, data, send, hover: -1, side: 0, lasso: null, frameBox: null, lassoing: false, selected: [] })
    this.places = data.places.map((text) => decoded(text, Float32Array))
    this.count = this.places[0].length / 3
    this.query = decoded(data.query, Uint8Array)
    this.facts = data.facts.map((fact) => ({ ...fact, values: decoded(fact.values, Float32Array) }))
    this.marks = new Uint8Array(this.query)
    this.mode = data.names.length > 1 ? "both" : 0
    this.part = 0
    this.build()
    this.reset()
  }

  build() {
    const { data } = this
    this.stage = make("div", "stage")
    this.stage.style.height = `${data.height}px`
    this.stage.tabIndex = 0
    this.stage.setAttribute("role", "application")
    this.canvas = make("canvas", "points")
    this.over = make("canvas", "over")
    this.said = make("div", "said")
    this.said.setAttribute("aria-live", "polite")
    this.card = make("div", "card")
    this.card.hidden = true
    this.crop = make("canvas", "crop")
    this.words = make("div", "words")
    this.card.append(this.crop, this.words)
    this.painter = painter(this.canvas, this.places)
    this.stage.append(this.canvas, this.over, ...data.names.map((name, side) => {
      const label = make("div", `name side${side}`, name)
      return (this.labels ??= [])[side] = label
    }), this.card, this.said)
    this.root.replaceChildren(this.painter ? this.tools() : "", this.painter ? this.stage : make("p", "missing",
      "This browser does not draw with WebGL, so there is no map. Everything beside and below it holds without."))
    if (!this.painter) return
    this.sheet = new Image()
    if (data.sheet) this.sheet.src = data.sheet.src
    this.listen()
    this.watcher = new ResizeObserver(() => this.fit())
    this.watcher.observe(this.stage)
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault())
    this.canvas.addEventListener("webglcontextrestored", () => {
      this.painter = painter(this.canvas, this.places)
      this.paint(this.latest)
    })
  }

  tools() {
    const bar = make("div", "tools")
    const button = (label, title, act) => {
      const made = make("button", "tool", label)
      made.type = "button"
      made.title = title
      made.onclick = act
      bar.append(made)
      return made
    }
    this.lassoButton = button("Lasso", "Draw around points (L, or drag with Shift; with keys, Shift and arrows)", () => this.arm(!this.lassoing))
    this.lassoButton.setAttribute("aria-pressed", "false")
    button("Clear", "Drop the selection (Escape)", () => this.choose([], ""))
    button("All", "All points in view (0)", () => this.reset())
    button("Picked", "Zoom to the picked image (Z)", () => this.zoomToPicked())
    if (this.data.names.length > 1) {
      const modes = make("span", "modes")
      const choices = [["both", "Side by side"], [0, this.data.names[0]], [1, this.data.names[1]]]
      this.modes = choices.map(([mode, label]) => {
        const made = button(label, "Which map is shown; from one to the other the points travel", () => this.show(mode))
        made.setAttribute("aria-pressed", String(mode === this.mode))
        modes.append(made)
        return [mode, made]
      })
      bar.append(modes)
    }
    this.tally = make("span", "tally")
    bar.append(saveButtons({ PNG: () => this.png(), SVG: () => saveSvg(drawnAsSvg(this), this.data.file) }), this.tally)
    return bar
  }

  // What is drawn where: one box, or two side by side, in CSS pixels.
  boxes() {
    const both = this.mode === "both", width = this.width / (both ? 2 : 1)
    return (both ? [0, 1] : [this.part]).map((part, place) => ({ part, left: place * width, width, height: this.height }))
  }

  look(box) {
    const least = Math.min(box.width, box.height)
    const style = getComputedStyle(this.root), colour = (name) => bytesOf(style.getPropertyValue(name), style).slice(0, 3).map((x) => x / 255)
    this.theme ??= { ink: colour("--st-text-color"), paper: colour("--st-background-color") }
    return {
      ...this.theme,
      turn: this.turn,
      centre: this.centre,
      scale: [(this.zoom * least) / box.width, (this.zoom * least) / box.height],
      part: box.part,
      size: this.ratio * Math.min(16, Math.max(3.2, (this.count > 5000 ? 3.6 : 6) * Math.sqrt(this.zoom) * Math.sqrt(least / 500))),
      deep: this.data.dimensions === 3 ? 1 : 0,
    }
  }

  fit() {
    const ratio = Math.min(devicePixelRatio || 1, 2), { clientWidth: width, clientHeight: height } = this.stage
    if (!width || !height) return
    Object.assign(this, { ratio, width, height })
    for (const canvas of [this.canvas, this.over]) {
      canvas.width = Math.round(width * ratio)
      canvas.height = Math.round(height * ratio)
    }
    this.ask()
  }

  ask(moved = true) {
    if (moved) this.at = null
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null
      this.draw()
    })
  }

  draw() {
    if (!this.width || !this.latest || this.painter.lost()) return
    this.theme = null // the page's theme may have changed
    this.painter.clear()
    for (const box of this.boxes()) {
      const [x, w, h] = [box.left, box.width, box.height].map((each) => Math.round(each * this.ratio))
      this.painter.draw([x, 0, w, h], this.look(box))
    }
    drawOver(this)
    clearTimeout(this.counting)
    this.counting = setTimeout(() => this.tell(), 120)
  }

  // Places on screen, (2 N) pixels within each box; kept until the view changes.
  where() {
    return (this.at ??= this.boxes().map((box, place) => {
      this.room ??= [new Float32Array(2 * this.count), new Float32Array(2 * this.count)]
      const last = this.places[this.places.length - 1]
      return projected(this.places[0], last, this.look(box), box.width, box.height, this.room[place])
    }))
  }

  tell() {
    const seen = new Uint8Array(this.count)
    this.boxes().forEach((box, place) => {
      const at = this.where()[place]
      for (let row = 0; row < this.count; row++)
        if (at[2 * row] >= 0 && at[2 * row] <= box.width && at[2 * row + 1] >= 0 && at[2 * row + 1] <= box.height) seen[row] = 1
    })
    const total = this.count.toLocaleString("en"), shown = seen.reduce((sum, one) => sum + one, 0).toLocaleString("en")
    const selected = this.selected.length.toLocaleString("en")
    this.tally.textContent = `${shown} of ${total} in view, ${selected} selected`
    this.stage.setAttribute("aria-label", `${this.data.alt}. ${this.tally.textContent}. ${KEYS}${this.modes ? OTHER : ""}`)
  }

  // How the points are to look; see embedding_legend.js.
  paint(drawn) {
    if (!drawn || !this.painter) return
    this.latest = drawn
    const indices = decoded(drawn.colours, Uint8Array), colours = new Uint8Array(4 * this.count)
    const style = getComputedStyle(this.root), palette = drawn.palette.map((colour) => bytesOf(colour, style))
    const quiet = [], strong = []
    for (let row = 0; row < this.count; row++) {
      colours.set(palette[indices[row]], 4 * row)
      if (!indices[row]) colours[4 * row + 3] = drawn.faint
      ;(indices[row] ? strong : quiet).push(row)
    }
    this.painter.colour(colours)
    this.painter.layers(quiet, strong)
    this.turned = drawn.turned ? decoded(drawn.turned, Uint8Array) : null
    if (this.picked !== drawn.picked && this.hover < 0) this.cursor = drawn.picked
    this.picked = drawn.picked
    this.mark(drawn.selected)
  }

  mark(rows) {
    this.selected = rows
    for (let row = 0; row < this.count; row++) this.marks[row] = (this.query[row] ? 1 : 0) + (this.turned?.[row] ? 4 : 0)
    for (const row of rows) this.marks[row] += 2
    this.painter.mark(this.marks)
    this.ask(false)
  }

  choose(rows, address) {
    this.frameBox = null
    this.mark(rows)
    this.send.lasso(address)
  }

  reset() {
    Object.assign(this, { turn: new Float32Array(UPRIGHT), centre: [0, 0], zoom: 0.94 })
    if (this.data.dimensions === 3) this.turn = turned(this.turn, 0.5, 0.35)
    this.ask()
  }

  // The picked image in the middle; on two maps the middle between its two places.
  zoomToPicked() {
    if (this.picked == null || this.picked < 0) return
    const ends = this.boxes().map((box) => {
      const look = { ...this.look(box), centre: [0, 0], scale: [1, 1] }, from = 3 * this.picked
      const one = this.places.map((place) => place.subarray(from, from + 3))
      const [x, y] = projected(one[0], one[one.length - 1], look, 2, 2, [0, 0])
      return [x - 1, 1 - y]
    })
    const last = ends[ends.length - 1], apart = Math.hypot(ends[0][0] - last[0], ends[0][1] - last[1])
    this.centre = [(ends[0][0] + last[0]) / 2, (ends[0][1] + last[1]) / 2]
    this.zoom = Math.min(8, apart ? 1.4 / apart : 8)
    this.ask()
  }

  show(mode) {
    const from = this.mode === "both" ? 0 : this.part
    this.mode = mode
    for (const [each, button] of this.modes) button.setAttribute("aria-pressed", String(each === mode))
    Object.assign(this, { side: 0, frameBox: null })
    if (mode === "both" || STILL()) {
      this.part = mode === "both" ? 0 : mode
      return this.ask()
    }
    const began = performance.now()
    const travel = (now) => {
      if (this.mode !== mode) return
      const share = Math.min(1, Math.max(0, (now - began) / 900)), eased = share * share * (3 - 2 * share)
      this.part = from + (mode - from) * eased
      this.ask()
      if (share < 1) requestAnimationFrame(travel)
    }
    requestAnimationFrame(travel)
  }

  arm(on) {
    this.lassoing = on
    this.lassoButton.setAttribute("aria-pressed", String(on))
    this.stage.classList.toggle("lassoing", on)
  }

  listen() {
    handle(this)
  }

  async png() {
    this.draw() // in the same breath, before the browser drops what WebGL drew
    const whole = make("canvas")
    whole.width = this.canvas.width
    whole.height = this.canvas.height
    const pen = whole.getContext("2d")
    pen.fillStyle = getComputedStyle(this.root).getPropertyValue("--st-background-color") || "#fff"
    pen.fillRect(0, 0, whole.width, whole.height)
    for (const layer of [this.canvas, this.over]) pen.drawImage(layer, 0, 0)
    pen.scale(this.ratio, this.ratio)
    pen.font = `13px ${getComputedStyle(this.root).getPropertyValue("--st-font") || "sans-serif"}`
    pen.fillStyle = getComputedStyle(this.root).getPropertyValue("--st-text-color") || "#000"
    for (const label of this.labels) if (!label.hidden) pen.fillText(label.textContent, label.offsetLeft + 4, 22)
    const blob = await new Promise((done) => whole.toBlob(done, "image/png"))
    save(blob, "image/png", `${this.data.file}.png`)
  }
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".root")
  const send = {
    lasso: (address) => setTriggerValue("lasso", address),
    picked: (row) => setTriggerValue("picked", row),
  }
  if (root.map?.data.id !== data.id) {
    root.map?.painter?.end()
    root.map = new EmbeddingMap(root, data, send)
  }
  root.map.send = send
  const entry = maps.get(data.id) ?? {}
  maps.set(data.id, { ...entry, map: root.map })
  root.map.paint(entry.paint)
  return () => setTimeout(() => { // gone for good, or only about to be drawn again?
    if (root.isConnected) return
    root.map?.watcher?.disconnect()
    root.map?.painter?.end()
    if (maps.get(data.id)?.map === root.map) maps.delete(data.id)
    root.map = null
  }, 0)
}
