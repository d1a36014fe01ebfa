// Exchanges the key in the address for a session. The key is behind "#", so that it is in no
// request line, log or Referer; it goes out once, in the body of a POST to our own origin.
(() => {
  const show = (id, on = true) => { document.getElementById(id).hidden = !on; };

  const exchange = async (token) => {
    const answer = await fetch("/corral/enter", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ token }),
    });
    if (answer.ok) return "";
    return answer.status === 403 ? "used" : "failed";
  };

  const enter = async () => {
    const token = location.hash.slice(1);
    if (location.pathname !== "/corral/enter" || !token) return;
    history.replaceState(null, "", location.pathname);
    for (const id of ["closed", "used", "failed"]) show(id, false);
    show("entering");
    const problem = await exchange(token).catch(() => "failed"); // the server is gone
    if (!problem) { location.replace("/"); return; }
    show("entering", false);
    show("closed");
    show(problem);
  };

  addEventListener("hashchange", enter); // an address pasted into the tab that shows this page
  enter();
})();
