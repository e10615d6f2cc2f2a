// Puts the cursor into a text field of the page; Escape leaves it, so that the keys work again.

export default function ({ data }) {
  const place = "." + data.place
  if (data.now) {
    requestAnimationFrame(() => {
      const field = document.querySelector(`${place} textarea, ${place} input`)
      if (field) field.focus()
    })
  }
  const leave = (event) => {
    if (event.key === "Escape" && event.target.closest && event.target.closest(place)) event.target.blur()
  }
  document.addEventListener("keydown", leave)
  return () => document.removeEventListener("keydown", leave)
}
