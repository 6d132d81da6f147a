// The modules of the page, with what they are to answer
async (texts) => {
    const { Raw, encode, pretty, textAt } = await import("/page/json.js");
    const { parse } = await import("/page/search.js");
    const { cell } = await import("/page/csv.js");
    const { after } = await import("/page/feed.js");
    const { visible, oneLine } = await import("/page/dom.js");
    const search = (text) => { try { return parse(text, 1000000); } catch (error) { return error.constructor.name; } };
    const old = { id: "x", seq: 7, state: "failed", attempts: 1 };
    return {
        pretty: texts.map((text) => pretty(text).replaceAll(/\s+/g, "") === text.replaceAll(/\s+/g, "")),
        sent: texts.map((text) => textAt(encode({ id: 1, params: { x: "}", payload: new Raw(text) } }), ["params", "payload"])),
        nothing: [textAt('{"a": 1}', ["b"]), textAt("[1]", ["a"])],
        found: search('state:failed,in_doubt kind:post error:"A B" label:company=acme by:ada since:2d acted:yes A-1'),
        wrong: ["state:lost", "colour:red", "label:x", "since:soon", "key:", "state:", "acted:maybe", "key:a b"].map(search),
        id: search("0f2a91bc"), spaces: search("A 1 state:failed 7"),
        cells: ["=1+1", "-5", "+x", "@y", "a,b", 'q"q', -5, "plain", "two\nlines", null].map(cell),
        older: after(old, { seq: 7, state: "completed" }) === old,
        newer: after(old, { seq: 9, at: 3, state: "pending", type: "retried" }),
        shown: [visible("a\u202eb\u0000\ud800"), oneLine("a\nb"), oneLine("\ud83d\ude00".repeat(400)).length],
    };
}
