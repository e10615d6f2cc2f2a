// One press of the back button undoes one choice. To Streamlit every address that the server writes is a
// step. But what it writes while nobody has touched the page yet only completes the address that led here.

let untouched = true
const push = history.pushState

function step(state, title, url) {
  const to = new URL(url ?? "", location.href)
  const here = to.pathname === location.pathname
  untouched ||= !here
  const completes = here && (untouched || !location.search)
  return (completes ? history.replaceState : push).call(history, state, title, url)
}

if (push.name !== step.name) {
  history.pushState = step
  const touched = (event) => (untouched &&= !event.isTrusted)
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, touched, true)
}

