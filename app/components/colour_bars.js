// What the colours of the tiles mean: a bar for each range, and whose it is.

const MOST_NAMES = 3

function colourBar(palette, ends, unit, whose) {
  const bar = make("div", "scale")
  const strip = make("span", "gradient")
  strip.style.background = `linear-gradient(to right, ${gradient(palette).join(",")})`
  const words = make("span", "numbers")
  words.append(...ends.map((end) => make("span", "", end)))
  const inner = make("span", "strip")
  inner.append(strip, words)
  bar.append(...[whose, unit].filter(Boolean).map((text) => make("span", "unit", text)), inner)
  const said = ["Colours", whose && `of ${whose}`, `from ${ends[0]} to ${ends.at(-1)}`, unit]
  bar.setAttribute("aria-label", said.filter(Boolean).join(" "))
  bar.setAttribute("role", "img")
  return Object.assign(bar, { palette, ends, unit, whose })
}

// The tiles of each bar, in the order of the pictures. A range of its own is noted below its tile, so
// that such tiles have one bar of words for each palette.
function barsOf(tiles, ranges) {
  const bars = new Map()
  tiles.forEach((tile, index) => {
    const range = ranges[index]
    if (!tile.map || (tile.palette === "mask" && range[0] === 0 && range[1] === 1)) return
    const palette = tile.palette ?? "heat", own = tile.scale === "own" && tiles.length > 1
    const key = `${palette} ${own ? "own" : range}`
    if (!bars.has(key)) bars.set(key, { palette, own, range, places: [] })
    bars.get(key).places.push(index)
  })
  return [...bars.values()]
}

function namesOf(tiles, places) {
  const names = places.map((place) => tiles[place].label || `picture ${place + 1}`)
  const more = names.length - MOST_NAMES + 1
  return (more > 1 ? [...names.slice(0, MOST_NAMES - 1), `${more} more`] : names).join(" · ")
}

function endsOf({ palette, own, range }) {
  const [low, high] = own ? ["its lowest", "its highest"] : range.map(number)
  if (palette === "diverging") return own ? ["−largest", "0", "+largest"] : [low, "0", high]
  return [own && palette === "mask" ? "0" : low, high]
}

function whoseOf(tiles, { own, places }, alone) {
  if (alone) return own || places.length < 2 ? "" : "one range for all"
  return (own || places.length < 2 ? "" : "one range: ") + namesOf(tiles, places)
}

function colourBars({ tiles, unit }, ranges) {
  // A map of one number alone has no range, and says so below it.
  const plain = ({ own, places }) => own && places.every((place) => flat([tiles[place].map]))
  const bars = barsOf(tiles, ranges).filter((bar) => !plain(bar)), row = []
  const alone = bars.length === 1 && bars[0].places.length === tiles.filter((tile) => tile.map).length
  for (const bar of bars) {
    const maps = bar.places.map((place) => tiles[place].map)
    const whose = whoseOf(tiles, bar, alone), given = Array.isArray(tiles[bar.places[0]].scale)
    row.push(flat(maps) && !given
      ? make("span", "hint", [whose && `${whose}:`, flat(maps)].filter(Boolean).join(" "))
      : colourBar(bar.palette, endsOf(bar), unit, whose))
  }
  const own = bars.filter((bar) => bar.own)
  if (own.length) row.push(make("span", "hint", hintOf(own, own.length === bars.length)))
  return row
}

function hintOf(own, all) {
  const diverging = own.some((bar) => bar.palette === "diverging")
  const where = all ? "each picture has a range of its own, noted below it" : "a range of its own is noted below its picture"
  return diverging ? `${where}; blue and orange reach equally far from 0` : where
}
