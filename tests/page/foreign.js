// What a page of another origin can do with a token: a request that needs a preflight, one without, and a websocket
async ([url, token]) => {
    const outcome = (promise) => promise.then((answer) => answer.status ?? answer, () => "refused");
    const socket = () => new Promise((done) => {
        const bearer = "bearer." + btoa(token).replaceAll("=", "");
        const opened = new WebSocket(url.replace("http", "ws") + "ws", ["trio-jobs.v1", bearer]);
        opened.onmessage = () => done("message");
        opened.onclose = ({ code }) => done(code);
        opened.onopen = () => opened.send('{"jsonrpc": "2.0", "id": 1, "method": "queue.pause", "params": {}}');
    });
    const headers = { Authorization: `Bearer ${token}` };
    return {
        json: await outcome(fetch(url + "v1/queue/pause", { method: "POST", headers: { ...headers, "Content-Type": "application/json" }, body: "{}" })),
        form: await outcome(fetch(url + "v1/queue/pause", { method: "POST", body: new URLSearchParams({ reason: "x" }) })),
        blind: await outcome(fetch(url + "v1/queue/pause", { method: "POST", mode: "no-cors", body: "{}" }).then(({ type }) => type)),
        login: await outcome(fetch(url + "page/login", { method: "POST", headers: { "Content-Type": "text/plain" }, body: "{}" })),
        read: await outcome(fetch(url + "v1/status", { headers })),
        socket: await socket(),
    };
}
