// Signs in, or accepts an invitation whose token stands behind "#". Secrets leave only in the body
// of a POST to our own origin.
(() => {
  const said = document.getElementById("said");
  const say = (text) => { said.textContent = text; said.hidden = !text; };

  const post = async (path, value) => {
    const answer = await fetch(path, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(value),
    });
    if (answer.status === 204) { location.replace("/"); return null; }
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.detail);
    return content;
  };
  const attempt = async (path, value) => {
    say("");
    try { return await post(path, value); } catch (error) {
      say(error instanceof TypeError ? said.dataset.failed : error.message); // TypeError: no answer
      return null;
    }
  };

  const fields = (form) => Object.fromEntries(new FormData(form));
  const signin = document.getElementById("signin");
  if (signin) signin.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt("/corral/signin", fields(signin));
  });

  const invitation = document.getElementById("invitation");
  if (!invitation) return;
  const token = location.hash.slice(1);
  history.replaceState(null, "", location.pathname);
  attempt("/corral/invitation", { token }).then((content) => {
    if (!content) return;
    document.getElementById(`for-${content.role}`).hidden = false;
    const password = document.getElementById("with-password");
    password.querySelector("input").required = true;
    if (content.role === "user") password.hidden = false; else password.remove();
    invitation.hidden = false;
    invitation.elements.name.focus();
  });
  invitation.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt("/corral/invitation", { token, ...fields(invitation) });
  });
})();
