<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE TS>
<TS version="2.1" language="fr" sourcelanguage="en">
    <context>
        <name>mcnet-avatar</name>
        <message>
            <source>(none is bundled)</source>
            <translation>(aucun n'est fourni)</translation>
        </message>
        <message>
            <source>1 to 6: 64 px halve six times</source>
            <translation>de 1 à 6 : 64 px se divisent six fois par deux</translation>
        </message>
        <message>
            <source>A call hears nothing: {trouble}.</source>
            <translation>Un appel n'entend rien : {trouble}.</translation>
        </message>
        <message>
            <source>A call hears you {delay_ms:.0f} ms late, with the picture.</source>
            <translation>Un appel vous entend avec {delay_ms:.0f} ms de retard, comme l'image.</translation>
        </message>
        <message>
            <source>A device that every call program lists. It needs a kernel module, and root once.</source>
            <translation>Un périphérique que tout programme d'appel propose. Il demande un module du noyau, et une fois les droits root.</translation>
        </message>
        <message>
            <source>A folder for recordings</source>
            <translation>Un dossier pour les enregistrements</translation>
        </message>
        <message>
            <source>A folder…</source>
            <translation>Un dossier…</translation>
        </message>
        <message>
            <source>A lattice drawn on the portrait, moved as the portrait is</source>
            <translation>Un quadrillage tracé sur le portrait et déplacé avec lui</translation>
        </message>
        <message>
            <source>A model</source>
            <translation>Un modèle</translation>
        </message>
        <message>
            <source>A model's folder, or that of a run that learns</source>
            <translation>Le dossier d'un modèle, ou d'un entraînement en cours</translation>
        </message>
        <message>
            <source>A motion file for the avatar that idles</source>
            <translation>Un fichier de mouvement pour l'avatar au repos</translation>
        </message>
        <message>
            <source>A motion file in the camera's place</source>
            <translation>Un fichier de mouvement à la place de la caméra</translation>
        </message>
        <message>
            <source>A motion file…</source>
            <translation>Un fichier de mouvement…</translation>
        </message>
        <message>
            <source>A phone with a camera app, or any camera with an address on your network</source>
            <translation>Un téléphone avec une application caméra, ou toute caméra ayant une adresse sur votre réseau</translation>
        </message>
        <message>
            <source>A picture as background</source>
            <translation>Une image d'arrière-plan</translation>
        </message>
        <message>
            <source>A picture for the slate</source>
            <translation>Une image pour l'écran d'attente</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows</source>
            <translation>Une image à vous que montre l'écran d'attente</translation>
        </message>
        <message>
            <source>A picture of yours that the slate shows; now: {file}</source>
            <translation>Une image à vous que montre l'écran d'attente ; actuellement : {file}</translation>
        </message>
        <message>
            <source>A picture…</source>
            <translation>Une image…</translation>
        </message>
        <message>
            <source>A safe start avoids what may have been the cause: the processor computes, there is no virtual camera, and all settings are the defaults. Your own are kept for the next start.</source>
            <translation>Un démarrage sûr évite ce qui a pu être la cause : le processeur calcule, il n'y a pas de caméra virtuelle et tous les réglages sont ceux par défaut. Les vôtres sont conservés pour le prochain démarrage.</translation>
        </message>
        <message>
            <source>A video as background</source>
            <translation>Une vidéo en arrière-plan</translation>
        </message>
        <message>
            <source>A video in the camera's place</source>
            <translation>Une vidéo à la place de la caméra</translation>
        </message>
        <message>
            <source>A video…</source>
            <translation>Une vidéo…</translation>
        </message>
        <message>
            <source>AKD of copying</source>
            <translation>AKD par rapport à la copie</translation>
        </message>
        <message>
            <source>Absolute</source>
            <translation>Absolu</translation>
        </message>
        <message>
            <source>Add a picture from a file</source>
            <translation>Ajouter une image depuis un fichier</translation>
        </message>
        <message>
            <source>Add a picture from the clipboard</source>
            <translation>Ajouter une image depuis le presse-papiers</translation>
        </message>
        <message>
            <source>Add a picture of yours (Ctrl+O), or drop one anywhere</source>
            <translation>Ajouter une image à vous (Ctrl+O), ou en déposer une n'importe où</translation>
        </message>
        <message>
            <source>Add a portrait</source>
            <translation>Ajouter un portrait</translation>
        </message>
        <message>
            <source>Add neither this picture nor those that wait</source>
            <translation>N’ajouter ni cette image ni celles qui attendent</translation>
        </message>
        <message>
            <source>Add the picture in the clipboard (Ctrl+V)</source>
            <translation>Ajouter l'image du presse-papiers (Ctrl+V)</translation>
        </message>
        <message>
            <source>Add yours…</source>
            <translation>Le vôtre…</translation>
        </message>
        <message>
            <source>Add…</source>
            <translation>Ajouter…</translation>
        </message>
        <message>
            <source>Adjust the crop</source>
            <translation>Ajuster le cadrage</translation>
        </message>
        <message>
            <source>Allow it in System Settings &gt; {place}</source>
            <translation>Autorisez-la dans Réglages Système &gt; {place}</translation>
        </message>
        <message>
            <source>Always dark</source>
            <translation>Toujours sombre</translation>
        </message>
        <message>
            <source>Always light</source>
            <translation>Toujours clair</translation>
        </message>
        <message>
            <source>Another colour</source>
            <translation>Une autre couleur</translation>
        </message>
        <message>
            <source>Another file…</source>
            <translation>Autre fichier…</translation>
        </message>
        <message>
            <source>Another name for {preset}:</source>
            <translation>Un autre nom pour {preset} :</translation>
        </message>
        <message>
            <source>As the desktop</source>
            <translation>Comme le bureau</translation>
        </message>
        <message>
            <source>As the system</source>
            <translation>Comme le système</translation>
        </message>
        <message>
            <source>Attention</source>
            <translation>Attention</translation>
        </message>
        <message>
            <source>Automatic</source>
            <translation>Automatique</translation>
        </message>
        <message>
            <source>Automatic crop</source>
            <translation>Cadrage automatique</translation>
        </message>
        <message>
            <source>Automatic: {device}</source>
            <translation>Automatique : {device}</translation>
        </message>
        <message>
            <source>Avatar</source>
            <translation>Avatar</translation>
        </message>
        <message>
            <source>Back to the preview (Escape)</source>
            <translation>Retour à l'aperçu (Échap)</translation>
        </message>
        <message>
            <source>Background</source>
            <translation>Arrière-plan</translation>
        </message>
        <message>
            <source>Background: {name}</source>
            <translation>Arrière-plan : {name}</translation>
        </message>
        <message>
            <source>Before and after the memory compensates them, by the same principal components</source>
            <translation>Avant et après compensation par la mémoire, selon les mêmes composantes principales</translation>
        </message>
        <message>
            <source>Begins…</source>
            <translation>Commence…</translation>
        </message>
        <message>
            <source>Blinks, and eyes wide open.</source>
            <translation>Clignements et yeux grands ouverts.</translation>
        </message>
        <message>
            <source>Blur</source>
            <translation>Flou</translation>
        </message>
        <message>
            <source>Brows</source>
            <translation>Sourcils</translation>
        </message>
        <message>
            <source>Browsers and OBS see it once their PipeWire camera is switched on; the apps of Zoom and Teams do not.</source>
            <translation>Les navigateurs et OBS la voient une fois leur caméra PipeWire activée ; les applications de Zoom et Teams non.</translation>
        </message>
        <message>
            <source>CALIBRATING</source>
            <translation>CALIBRAGE</translation>
        </message>
        <message>
            <source>Calibrate</source>
            <translation>Calibrer</translation>
        </message>
        <message>
            <source>Calibrate (F)</source>
            <translation>Calibrer (F)</translation>
        </message>
        <message>
            <source>Calibrate hands-free (F)</source>
            <translation>Calibrer mains libres (F)</translation>
        </message>
        <message>
            <source>Calibrate hands-free: the best frame of a second or two</source>
            <translation>Calibrer mains libres : la meilleure image d'une ou deux secondes</translation>
        </message>
        <message>
            <source>Calibrate: this very frame is the reference</source>
            <translation>Calibrer : cette image précise devient la référence</translation>
        </message>
        <message>
            <source>Call this picture of yours something else (F2)</source>
            <translation>Renommer cette image à vous (F2)</translation>
        </message>
        <message>
            <source>Call this preset something else</source>
            <translation>Renommer ce préréglage</translation>
        </message>
        <message>
            <source>Calms jitter; a slow movement is shown that much later.</source>
            <translation>Calme les tremblements ; un mouvement lent s'affiche d'autant plus tard.</translation>
        </message>
        <message>
            <source>Camera</source>
            <translation>Caméra</translation>
        </message>
        <message>
            <source>Camera {number}</source>
            <translation>Caméra {number}</translation>
        </message>
        <message>
            <source>Can be chosen in the window: {words}.</source>
            <translation>Peut être choisie dans la fenêtre : {words}.</translation>
        </message>
        <message>
            <source>Cancel</source>
            <translation>Annuler</translation>
        </message>
        <message>
            <source>Cancel all</source>
            <translation>Tout annuler</translation>
        </message>
        <message>
            <source>Chain from the camera to the call</source>
            <translation>Chaîne de la caméra à l'appel</translation>
        </message>
        <message>
            <source>Change…</source>
            <translation>Modifier…</translation>
        </message>
        <message>
            <source>Choose another picture or video</source>
            <translation>Choisir une autre image ou vidéo</translation>
        </message>
        <message>
            <source>Choose two to four views of the network's inside</source>
            <translation>Choisir deux à quatre vues de l'intérieur du réseau</translation>
        </message>
        <message>
            <source>Choose {camera}</source>
            <translation>Choisissez {camera}</translation>
        </message>
        <message>
            <source>Choose “{name}” in your call program. Nobody listens to it yet.</source>
            <translation>Choisissez « {name} » dans votre programme d'appel. Personne ne l'écoute encore.</translation>
        </message>
        <message>
            <source>Close</source>
            <translation>Fermer</translation>
        </message>
        <message>
            <source>Close the programs that use it and load the module again</source>
            <translation>Fermez les programmes qui l'utilisent et rechargez le module</translation>
        </message>
        <message>
            <source>Close {by}</source>
            <translation>Fermez {by}</translation>
        </message>
        <message>
            <source>Column</source>
            <translation>Colonne</translation>
        </message>
        <message>
            <source>Command</source>
            <translation>Commande</translation>
        </message>
        <message>
            <source>Computer</source>
            <translation>Ordinateur</translation>
        </message>
        <message>
            <source>Content Credentials</source>
            <translation>Attestations de contenu</translation>
        </message>
        <message>
            <source>Control from outside</source>
            <translation>Contrôle externe</translation>
        </message>
        <message>
            <source>Controls</source>
            <translation>Commandes</translation>
        </message>
        <message>
            <source>Copy</source>
            <translation>Copier</translation>
        </message>
        <message>
            <source>Copy the token</source>
            <translation>Copier le jeton</translation>
        </message>
        <message>
            <source>Copy this command</source>
            <translation>Copier cette commande</translation>
        </message>
        <message>
            <source>Crop by the face that was found</source>
            <translation>Cadrer selon le visage trouvé</translation>
        </message>
        <message>
            <source>Crop of the portrait</source>
            <translation>Cadrage du portrait</translation>
        </message>
        <message>
            <source>Crop of {name}</source>
            <translation>Cadrage de {name}</translation>
        </message>
        <message>
            <source>Crop of {name} ({number} of {of})</source>
            <translation>Cadrage de {name} ({number} sur {of})</translation>
        </message>
        <message>
            <source>Ctrl</source>
            <translation>Ctrl</translation>
        </message>
        <message>
            <source>Cut the person out</source>
            <translation>Détourer la personne</translation>
        </message>
        <message>
            <source>DROP</source>
            <translation>DÉPOSER</translation>
        </message>
        <message>
            <source>Dark</source>
            <translation>Sombre</translation>
        </message>
        <message>
            <source>Delete</source>
            <translation>Supprimer</translation>
        </message>
        <message>
            <source>Delete preset</source>
            <translation>Supprimer le préréglage</translation>
        </message>
        <message>
            <source>Delete this preset; the portraits keep their strengths</source>
            <translation>Supprimer ce préréglage ; les portraits gardent leurs intensités</translation>
        </message>
        <message>
            <source>Device</source>
            <translation>Appareil</translation>
        </message>
        <message>
            <source>Dismiss</source>
            <translation>Masquer</translation>
        </message>
        <message>
            <source>Do what the message proposes</source>
            <translation>Faire ce que le message propose</translation>
        </message>
        <message>
            <source>Drag the square, or its corners. Keys: arrows move, plus and minus resize, Page Up and Down turn, comma and full stop straighten.</source>
            <translation>Faites glisser le carré ou ses coins. Touches : les flèches déplacent, plus et moins redimensionnent, Page préc. et Page suiv. tournent, virgule et point redressent.</translation>
        </message>
        <message>
            <source>Draw on your picture what was found in it (O).</source>
            <translation>Dessine sur votre image ce qui y a été trouvé (O).</translation>
        </message>
        <message>
            <source>Draw skin, teeth, lids</source>
            <translation>Dessiner peau, dents et paupières</translation>
        </message>
        <message>
            <source>Draws what the network cannot show of this portrait: its skin where it moves, the inside of a mouth that its picture keeps shut, and lids that close. For motion in space; nothing of your own picture goes into it.</source>
            <translation>Dessine ce que le réseau ne peut pas montrer de ce portrait : sa peau là où elle bouge, l'intérieur d'une bouche fermée sur l'image et les paupières qui se ferment. Pour le mouvement dans l'espace ; rien de votre propre image n'y entre.</translation>
        </message>
        <message>
            <source>Drop a picture to add a portrait, or a video or motion file to stand in for the camera.</source>
            <translation>Déposez une image pour ajouter un portrait, ou une vidéo ou un fichier de mouvement pour remplacer la caméra.</translation>
        </message>
        <message>
            <source>Each part of motion and expression for itself, in space only.</source>
            <translation>Chaque partie du mouvement et de l'expression séparément, dans l'espace seulement.</translation>
        </message>
        <message>
            <source>Enable RPM Fusion's free repository (rpmfusion.org tells how), then install it</source>
            <translation>Activez le dépôt libre de RPM Fusion (rpmfusion.org explique comment), puis installez-le</translation>
        </message>
        <message>
            <source>Enter keeps the name, Escape the one before.</source>
            <translation>Entrée garde le nom, Échap revient au précédent.</translation>
        </message>
        <message>
            <source>Everything is ready.</source>
            <translation>Tout est prêt.</translation>
        </message>
        <message>
            <source>Expression</source>
            <translation>Expression</translation>
        </message>
        <message>
            <source>FAULT</source>
            <translation>PANNE</translation>
        </message>
        <message>
            <source>Features</source>
            <translation>Caractéristiques</translation>
        </message>
        <message>
            <source>Figures</source>
            <translation>Mesures</translation>
        </message>
        <message>
            <source>Figures: not measured</source>
            <translation>Mesures : aucune</translation>
        </message>
        <message>
            <source>Figures: {figures}</source>
            <translation>Mesures : {figures}</translation>
        </message>
        <message numerus="yes">
            <source>Figures: {figures} ({n} clips that it never saw)</source>
            <translation>
                <numerusform>Mesures : {figures} ({n} clip qu'il n'a jamais vu)</numerusform>
                <numerusform>Mesures : {figures} ({n} clips qu'il n'a jamais vus)</numerusform>
            </translation>
        </message>
        <message>
            <source>Find the fastest way to run the model on this computer (a few seconds), and remember it</source>
            <translation>Trouve la façon la plus rapide d'exécuter le modèle sur cet ordinateur (quelques secondes) et la retient</translation>
        </message>
        <message>
            <source>Fine detail</source>
            <translation>Détails fins</translation>
        </message>
        <message>
            <source>Fine-tune</source>
            <translation>Réglage fin</translation>
        </message>
        <message>
            <source>First steps</source>
            <translation>Premiers pas</translation>
        </message>
        <message>
            <source>Flip what the call sees (T).</source>
            <translation>Retourne ce que voit l'appel (T).</translation>
        </message>
        <message>
            <source>Folder of recordings</source>
            <translation>Dossier des enregistrements</translation>
        </message>
        <message>
            <source>Framing</source>
            <translation>Cadrage</translation>
        </message>
        <message>
            <source>Gaze</source>
            <translation>Regard</translation>
        </message>
        <message>
            <source>Generated</source>
            <translation>Généré</translation>
        </message>
        <message>
            <source>Give the output to call programs as a camera. It starts with the slate; then go live.</source>
            <translation>Donne la sortie aux programmes d'appel comme caméra. Elle commence par l'écran d'attente ; passez ensuite en direct.</translation>
        </message>
        <message>
            <source>Go live</source>
            <translation>Passer en direct</translation>
        </message>
        <message>
            <source>Go live, or stop</source>
            <translation>Passer en direct, ou arrêter</translation>
        </message>
        <message>
            <source>HOLD</source>
            <translation>FIGÉ</translation>
        </message>
        <message>
            <source>Hands-free</source>
            <translation>Mains libres</translation>
        </message>
        <message>
            <source>Have it at every start of the system</source>
            <translation>À activer à chaque démarrage du système</translation>
        </message>
        <message>
            <source>Heard: {name}</source>
            <translation>On entend : {name}</translation>
        </message>
        <message>
            <source>Hide</source>
            <translation>Masquer</translation>
        </message>
        <message>
            <source>How far the background is out of focus.</source>
            <translation>À quel point l'arrière-plan est flou.</translation>
        </message>
        <message>
            <source>How far the enlarged portrait is sharpened.</source>
            <translation>À quel point le portrait agrandi est accentué.</translation>
        </message>
        <message>
            <source>How far the head moves.</source>
            <translation>Jusqu'où la tête bouge.</translation>
        </message>
        <message>
            <source>How large the portrait stands in the picture (the mouse wheel over the preview).</source>
            <translation>Taille du portrait dans l'image (la molette sur l'aperçu).</translation>
        </message>
        <message>
            <source>How long a process of its own was busy with computing one frame once more</source>
            <translation>Combien de temps un processus à part a mis pour recalculer une image</translation>
        </message>
        <message>
            <source>How much of the crop your face fills (W and S).</source>
            <translation>Quelle part du cadrage votre visage occupe (W et S).</translation>
        </message>
        <message>
            <source>How often calls and recordings get a picture.</source>
            <translation>À quelle fréquence les appels et les enregistrements reçoivent une image.</translation>
        </message>
        <message>
            <source>How strongly mouth, eyes and brows move.</source>
            <translation>À quel point la bouche, les yeux et les sourcils bougent.</translation>
        </message>
        <message>
            <source>I may use this picture</source>
            <translation>J'ai le droit d'utiliser cette image</translation>
        </message>
        <message>
            <source>IDLE</source>
            <translation>REPOS</translation>
        </message>
        <message>
            <source>If there is none, the device keeps an old format: free it</source>
            <translation>S'il n'y en a pas, l'appareil garde un ancien format : libérez-le</translation>
        </message>
        <message>
            <source>In a call</source>
            <translation>Pendant un appel</translation>
        </message>
        <message>
            <source>In space</source>
            <translation>Dans l'espace</translation>
        </message>
        <message>
            <source>In the plane</source>
            <translation>Dans le plan</translation>
        </message>
        <message>
            <source>In this window 0 shows the slate; a key chosen here does so from every other one, too.</source>
            <translation>Dans cette fenêtre, 0 montre l'écran d'attente ; une touche choisie ici le fait aussi depuis toute autre.</translation>
        </message>
        <message>
            <source>Inside the network</source>
            <translation>Intérieur du réseau</translation>
        </message>
        <message>
            <source>Install OBS Studio 30 or newer from {address}</source>
            <translation>Installez OBS Studio 30 ou plus récent depuis {address}</translation>
        </message>
        <message>
            <source>Install OBS Studio from {address} (it need not run), then restart your call program</source>
            <translation>Installez OBS Studio depuis {address} (il n'a pas besoin de tourner), puis redémarrez votre programme d'appel</translation>
        </message>
        <message>
            <source>Install it</source>
            <translation>Installez-le</translation>
        </message>
        <message>
            <source>Install it (for another kernel than linux, its own headers: linux-lts-headers, say)</source>
            <translation>Installez-le (pour un autre noyau que linux, avec ses propres en-têtes, par exemple linux-lts-headers)</translation>
        </message>
        <message>
            <source>Install your distribution's package v4l2loopback (or v4l2loopback-dkms)</source>
            <translation>Installez le paquet v4l2loopback (ou v4l2loopback-dkms) de votre distribution</translation>
        </message>
        <message>
            <source>Install your distribution's packages pipewire and wireplumber</source>
            <translation>Installez les paquets pipewire et wireplumber de votre distribution</translation>
        </message>
        <message>
            <source>It has no card with figures: nobody has told how good it is (mcnet-train evaluate measures it).</source>
            <translation>Il n'a pas de fiche avec des mesures : personne n'a dit ce qu'il vaut (mcnet-train evaluate le mesure).</translation>
        </message>
        <message>
            <source>It is a pickled checkpoint without a card: it is read without running code, but nobody tells how good it is or under which licence it may be used.</source>
            <translation>C'est un checkpoint pickle sans fiche : il est lu sans exécuter de code, mais personne ne dit ce qu'il vaut ni sous quelle licence il peut être utilisé.</translation>
        </message>
        <message>
            <source>It is being switched on…</source>
            <translation>Activation en cours…</translation>
        </message>
        <message>
            <source>It is off: {why}.</source>
            <translation>Désactivé : {why}.</translation>
        </message>
        <message>
            <source>It is worse than showing the portrait as it is: its pictures are off by {copied:.0%} of what that would be.</source>
            <translation>C'est pire que de montrer le portrait tel quel : ses images s'écartent de {copied:.0%} de ce que cela donnerait.</translation>
        </message>
        <message>
            <source>It shows me, or the person in it agrees, or nobody real is in it.</source>
            <translation>Elle me montre, la personne qui y figure est d'accord, ou elle ne montre personne de réel.</translation>
        </message>
        <message>
            <source>Its card is being read…</source>
            <translation>Lecture de la fiche…</translation>
        </message>
        <message>
            <source>Join the group of video devices, then log out and in again</source>
            <translation>Rejoignez le groupe des périphériques vidéo, puis fermez et rouvrez votre session</translation>
        </message>
        <message>
            <source>Keep these strengths under a name</source>
            <translation>Garder ces intensités sous un nom</translation>
        </message>
        <message>
            <source>Keep this crop and animate it</source>
            <translation>Garder ce cadrage et l'animer</translation>
        </message>
        <message>
            <source>Key for the slate, from every window</source>
            <translation>Touche de l'écran d'attente, depuis toute fenêtre</translation>
        </message>
        <message>
            <source>Keys</source>
            <translation>Touches</translation>
        </message>
        <message>
            <source>Kind of virtual camera</source>
            <translation>Type de caméra virtuelle</translation>
        </message>
        <message>
            <source>L1 of copying</source>
            <translation>L1 par rapport à la copie</translation>
        </message>
        <message>
            <source>L1 of copying, of what it learns from</source>
            <translation>L1 par rapport à la copie, sur ses données d'entraînement</translation>
        </message>
        <message>
            <source>LIVE</source>
            <translation>EN DIRECT</translation>
        </message>
        <message>
            <source>Landmarks and keypoints</source>
            <translation>Repères et points clés</translation>
        </message>
        <message>
            <source>Language</source>
            <translation>Langue</translation>
        </message>
        <message>
            <source>Lattice</source>
            <translation>Quadrillage</translation>
        </message>
        <message>
            <source>Leave everything as it was (Escape)</source>
            <translation>Tout laisser comme avant (Échap)</translation>
        </message>
        <message>
            <source>Leave the slate up; the call keeps its picture (G)</source>
            <translation>Laisser l'écran d'attente ; l'appel garde son image (G)</translation>
        </message>
        <message>
            <source>Let a Stream Deck, OBS or scripts reach slate, portraits and recordings; on this computer alone.</source>
            <translation>Permet à un Stream Deck, à OBS ou à des scripts d'agir sur l'écran d'attente, les portraits et les enregistrements ; sur cet ordinateur seulement.</translation>
        </message>
        <message>
            <source>Let call programs see the output; it starts with the slate</source>
            <translation>Rend la sortie visible aux programmes d'appel ; elle commence par l'écran d'attente</translation>
        </message>
        <message>
            <source>Level</source>
            <translation>Niveau</translation>
        </message>
        <message>
            <source>Level of the microphone</source>
            <translation>Niveau du microphone</translation>
        </message>
        <message>
            <source>Licence: {licence}</source>
            <translation>Licence : {licence}</translation>
        </message>
        <message>
            <source>Lids</source>
            <translation>Paupières</translation>
        </message>
        <message>
            <source>Lift slate</source>
            <translation>Lever l'attente</translation>
        </message>
        <message>
            <source>Light</source>
            <translation>Clair</translation>
        </message>
        <message>
            <source>Lips, jaw and chin.</source>
            <translation>Lèvres, mâchoire et menton.</translation>
        </message>
        <message>
            <source>List all keys (?)</source>
            <translation>Lister toutes les touches (?)</translation>
        </message>
        <message>
            <source>Load the module</source>
            <translation>Chargez le module</translation>
        </message>
        <message>
            <source>Look again for a virtual camera</source>
            <translation>Chercher à nouveau une caméra virtuelle</translation>
        </message>
        <message>
            <source>Look again for cameras</source>
            <translation>Chercher à nouveau des caméras</translation>
        </message>
        <message>
            <source>Look again for microphones</source>
            <translation>Chercher à nouveau des microphones</translation>
        </message>
        <message>
            <source>Look as the portrait does: the head turned alike, mouth and eyes as far open.</source>
            <translation>Prenez l'air du portrait : la tête tournée de même, la bouche et les yeux aussi ouverts.</translation>
        </message>
        <message>
            <source>Look as you do at rest: mouth closed, eyes open; any direction will do.</source>
            <translation>Prenez un air neutre : bouche fermée, yeux ouverts ; peu importe la direction.</translation>
        </message>
        <message>
            <source>Looking for cameras…</source>
            <translation>Recherche de caméras…</translation>
        </message>
        <message>
            <source>Looking for one…</source>
            <translation>Recherche…</translation>
        </message>
        <message>
            <source>MEASURING</source>
            <translation>MESURE</translation>
        </message>
        <message>
            <source>Make another token; the old one is of no use then</source>
            <translation>Créer un autre jeton ; l'ancien ne sert alors plus</translation>
        </message>
        <message>
            <source>Masks</source>
            <translation>Masques</translation>
        </message>
        <message>
            <source>Measure</source>
            <translation>Mesurer</translation>
        </message>
        <message>
            <source>Measured: {words}.</source>
            <translation>Mesuré : {words}.</translation>
        </message>
        <message>
            <source>Microphone</source>
            <translation>Microphone</translation>
        </message>
        <message>
            <source>Microphone for calls, in step</source>
            <translation>Microphone pour appels, synchrone</translation>
        </message>
        <message>
            <source>Mirror the output</source>
            <translation>Retourner la sortie</translation>
        </message>
        <message>
            <source>Mirror the preview</source>
            <translation>Aperçu en miroir</translation>
        </message>
        <message>
            <source>Mirror what the call sees</source>
            <translation>Retourner ce que voit l'appel</translation>
        </message>
        <message>
            <source>Missing: {link}</source>
            <translation>Il manque : {link}</translation>
        </message>
        <message>
            <source>Model</source>
            <translation>Modèle</translation>
        </message>
        <message>
            <source>Models (*.safetensors *.pth *.tar);;All files (*)</source>
            <translation>Modèles (*.safetensors *.pth *.tar);;Tous les fichiers (*)</translation>
        </message>
        <message>
            <source>Motion</source>
            <translation>Mouvement</translation>
        </message>
        <message>
            <source>Motion files (*.safetensors);;All files (*)</source>
            <translation>Fichiers de mouvement (*.safetensors);;Tous les fichiers (*)</translation>
        </message>
        <message>
            <source>Motion file…</source>
            <translation>Fichier de mouvement…</translation>
        </message>
        <message>
            <source>Mouth</source>
            <translation>Bouche</translation>
        </message>
        <message>
            <source>Move the crop down (J)</source>
            <translation>Déplacer le cadrage vers le bas (J)</translation>
        </message>
        <message>
            <source>Move the crop to the left (H)</source>
            <translation>Déplacer le cadrage vers la gauche (H)</translation>
        </message>
        <message>
            <source>Move the crop to the right (K)</source>
            <translation>Déplacer le cadrage vers la droite (K)</translation>
        </message>
        <message>
            <source>Move the crop up (U)</source>
            <translation>Déplacer le cadrage vers le haut (U)</translation>
        </message>
        <message>
            <source>Moves gently</source>
            <translation>Bouge doucement</translation>
        </message>
        <message>
            <source>NO CAMERA</source>
            <translation>PAS DE CAMÉRA</translation>
        </message>
        <message>
            <source>NO FACE</source>
            <translation>PAS DE VISAGE</translation>
        </message>
        <message>
            <source>Name of the portrait</source>
            <translation>Nom du portrait</translation>
        </message>
        <message>
            <source>Name of these strengths:</source>
            <translation>Nom de ces intensités :</translation>
        </message>
        <message>
            <source>Nearness</source>
            <translation>Proximité</translation>
        </message>
        <message>
            <source>Network camera</source>
            <translation>Caméra réseau</translation>
        </message>
        <message>
            <source>Network camera…</source>
            <translation>Caméra réseau…</translation>
        </message>
        <message>
            <source>New recordings have your voice, in step with the picture. Switched off, the microphone is closed.</source>
            <translation>Les nouveaux enregistrements ont votre voix, synchronisée avec l'image. Désactivé, le microphone est fermé.</translation>
        </message>
        <message>
            <source>New token</source>
            <translation>Nouveau jeton</translation>
        </message>
        <message>
            <source>Next portrait</source>
            <translation>Portrait suivant</translation>
        </message>
        <message>
            <source>Next step</source>
            <translation>Étape suivante</translation>
        </message>
        <message>
            <source>No camera</source>
            <translation>Aucune caméra</translation>
        </message>
        <message>
            <source>No camera was found. Plug one in and refresh, or let a video file stand in for it.</source>
            <translation>Aucune caméra n'a été trouvée. Branchez-en une et actualisez, ou remplacez-la par un fichier vidéo.</translation>
        </message>
        <message>
            <source>No card: nobody tells what it learned from, or how good it is</source>
            <translation>Pas de fiche : personne ne dit de quoi il a appris, ni ce qu'il vaut</translation>
        </message>
        <message>
            <source>No kernel module and no root, also with Secure Boot. Firefox, Chromium and OBS can list it.</source>
            <translation>Ni module du noyau ni droits root, même avec Secure Boot. Firefox, Chromium et OBS peuvent la proposer.</translation>
        </message>
        <message>
            <source>No picture goes out any more.</source>
            <translation>Plus aucune image ne sort.</translation>
        </message>
        <message>
            <source>Nod</source>
            <translation>Hochement</translation>
        </message>
        <message>
            <source>None: transparent</source>
            <translation>Aucun : transparent</translation>
        </message>
        <message>
            <source>Not all of the list of portraits could be read: {said}. A portrait may have lost its name or its crop; {kept}.</source>
            <translation>La liste des portraits n'a pas pu être lue en entier : {said}. Un portrait a peut-être perdu son nom ou son cadrage ; {kept}.</translation>
        </message>
        <message>
            <source>Not all presets could be used: {said}. All others are there; {kept}.</source>
            <translation>Certains préréglages n'ont pas pu être utilisés : {said}. Tous les autres sont là ; {kept}.</translation>
        </message>
        <message>
            <source>Not all settings could be used: {said}. All others are in force; {kept}.</source>
            <translation>Certains réglages n'ont pas pu être utilisés : {said}. Tous les autres sont en vigueur ; {kept}.</translation>
        </message>
        <message>
            <source>Not in space: {reason}.</source>
            <translation>Pas dans l'espace : {reason}.</translation>
        </message>
        <message>
            <source>Not possible here while another window has the focus: {words}.</source>
            <translation>Impossible ici tant qu'une autre fenêtre a le focus : {words}.</translation>
        </message>
        <message>
            <source>Not yet: {missing}</source>
            <translation>Pas encore : {missing}</translation>
        </message>
        <message>
            <source>Nothing is heard: {trouble}.</source>
            <translation>On n'entend rien : {trouble}.</translation>
        </message>
        <message>
            <source>Nothing says under which licence it may be used.</source>
            <translation>Rien n'indique sous quelle licence il peut être utilisé.</translation>
        </message>
        <message>
            <source>Nothing to improve.</source>
            <translation>Rien à améliorer.</translation>
        </message>
        <message>
            <source>Nudge</source>
            <translation>Décaler</translation>
        </message>
        <message>
            <source>Nudge it down</source>
            <translation>Décaler vers le bas</translation>
        </message>
        <message>
            <source>Nudge it left</source>
            <translation>Décaler vers la gauche</translation>
        </message>
        <message>
            <source>Nudge it right</source>
            <translation>Décaler vers la droite</translation>
        </message>
        <message>
            <source>Nudge the crop up</source>
            <translation>Décaler le cadrage vers le haut</translation>
        </message>
        <message>
            <source>Occlusion</source>
            <translation>Occultation</translation>
        </message>
        <message>
            <source>Of the picture that calls and recordings get, in pixels.</source>
            <translation>De l'image que reçoivent les appels et les enregistrements, en pixels.</translation>
        </message>
        <message>
            <source>Of the window's texts. A change takes effect at the app's next start.</source>
            <translation>Des textes de la fenêtre. Un changement prend effet au prochain démarrage de l'application.</translation>
        </message>
        <message>
            <source>Offer call programs the microphone as late as the picture is, so that lips and voice agree. It is heard only while a program listens, and silent while you show the slate.</source>
            <translation>Offre le microphone aux programmes d'appel avec le retard de l'image, pour que les lèvres suivent la voix. Il n'est écouté que tant qu'un programme écoute, et se tait tant que vous montrez l'écran d'attente.</translation>
        </message>
        <message>
            <source>On: {device}. Choose it in your call program.</source>
            <translation>Activée : {device}. Choisissez-la dans votre programme d'appel.</translation>
        </message>
        <message>
            <source>One colour</source>
            <translation>Une couleur</translation>
        </message>
        <message>
            <source>One moment: it is being read…</source>
            <translation>Un instant : lecture en cours…</translation>
        </message>
        <message>
            <source>Open</source>
            <translation>Ouvrir</translation>
        </message>
        <message>
            <source>Open OBS, press Start Virtual Camera once, allow the extension, press Stop, and restart this app</source>
            <translation>Ouvrez OBS, cliquez une fois sur « Démarrer la caméra virtuelle », autorisez l'extension, arrêtez-la et redémarrez cette application</translation>
        </message>
        <message>
            <source>Open folder</source>
            <translation>Ouvrir le dossier</translation>
        </message>
        <message>
            <source>Open what is written about this model</source>
            <translation>Ouvrir ce qui est écrit sur ce modèle</translation>
        </message>
        <message>
            <source>OpenCV does not load: {error}; on Debian or Ubuntu: apt-get install libgl1 libglib2.0-0 libxcb1</source>
            <translation>OpenCV ne se charge pas : {error} ; sous Debian ou Ubuntu : apt-get install libgl1 libglib2.0-0 libxcb1</translation>
        </message>
        <message>
            <source>OpenVINO alone knows it, and backend {backend} was chosen; use backend auto, or bf16 or fp32</source>
            <translation>seul OpenVINO le permet, et le moteur {backend} a été choisi ; utilisez le moteur auto, ou bf16 ou fp32</translation>
        </message>
        <message>
            <source>OpenVINO computes on CPUs and Intel GPUs only, and {device} was chosen</source>
            <translation>OpenVINO ne calcule que sur les processeurs et les GPU Intel, et {device} a été choisi</translation>
        </message>
        <message>
            <source>OpenVINO finds no Intel GPU: there is none, or its driver for computing (OpenCL) is missing</source>
            <translation>OpenVINO ne trouve pas de GPU Intel : il n'y en a pas, ou son pilote de calcul (OpenCL) manque</translation>
        </message>
        <message>
            <source>OpenVINO knows no GPU on macOS (device mps is Apple's)</source>
            <translation>OpenVINO ne connaît pas de GPU sous macOS (l'appareil mps est celui d'Apple)</translation>
        </message>
        <message>
            <source>OpenVINO was measured on x86-64 CPUs only, and this is {machine}</source>
            <translation>OpenVINO n'a été mesuré que sur des processeurs x86-64, et celui-ci est {machine}</translation>
        </message>
        <message>
            <source>Opening…</source>
            <translation>Ouverture…</translation>
        </message>
        <message>
            <source>Other programs</source>
            <translation>Autres programmes</translation>
        </message>
        <message>
            <source>Output and computer</source>
            <translation>Sortie et ordinateur</translation>
        </message>
        <message>
            <source>Output preview</source>
            <translation>Aperçu de la sortie</translation>
        </message>
        <message>
            <source>Output rate</source>
            <translation>Cadence de sortie</translation>
        </message>
        <message>
            <source>Output size</source>
            <translation>Taille de sortie</translation>
        </message>
        <message>
            <source>Overlay</source>
            <translation>Superposition</translation>
        </message>
        <message>
            <source>PREVIEW</source>
            <translation>APERÇU</translation>
        </message>
        <message>
            <source>Panic key</source>
            <translation>Touche d'urgence</translation>
        </message>
        <message>
            <source>Parts of expression</source>
            <translation>Parties de l'expression</translation>
        </message>
        <message>
            <source>Parts of motion</source>
            <translation>Parties du mouvement</translation>
        </message>
        <message>
            <source>Paste a picture</source>
            <translation>Coller une image</translation>
        </message>
        <message>
            <source>Pause the preview</source>
            <translation>Suspendre l'aperçu</translation>
        </message>
        <message>
            <source>Pick one on the left, or add a picture of yours</source>
            <translation>Choisissez-en un à gauche, ou ajoutez une image à vous</translation>
        </message>
        <message>
            <source>Picture</source>
            <translation>Image</translation>
        </message>
        <message>
            <source>Pictures ({endings});;All files (*)</source>
            <translation>Images ({endings});;Tous les fichiers (*)</translation>
        </message>
        <message>
            <source>PipeWire camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>caméra PipeWire {detail} : l'image est {shape}, il faut {expected}</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds:g} s</source>
            <translation>PipeWire n'a pas répondu en {seconds:g} s</translation>
        </message>
        <message>
            <source>PipeWire did not answer within {seconds} s</source>
            <translation>PipeWire n'a pas répondu en {seconds} s</translation>
        </message>
        <message>
            <source>PipeWire does not run: {error}</source>
            <translation>PipeWire ne tourne pas : {error}</translation>
        </message>
        <message>
            <source>PipeWire has ended</source>
            <translation>PipeWire s'est terminé</translation>
        </message>
        <message>
            <source>PipeWire has failed: {said}</source>
            <translation>PipeWire a échoué : {said}</translation>
        </message>
        <message>
            <source>PipeWire has refused the camera: {error}</source>
            <translation>PipeWire a refusé la caméra : {error}</translation>
        </message>
        <message>
            <source>PipeWire has refused the microphone: {error}</source>
            <translation>PipeWire a refusé le microphone : {error}</translation>
        </message>
        <message>
            <source>PipeWire has refused to hear the microphone: {error}</source>
            <translation>PipeWire a refusé d'écouter le microphone : {error}</translation>
        </message>
        <message>
            <source>PipeWire is installed, but does not run: nothing listens at {socket}.</source>
            <translation>PipeWire est installé, mais ne tourne pas : rien n'écoute sur {socket}.</translation>
        </message>
        <message>
            <source>PipeWire is not installed.</source>
            <translation>PipeWire n'est pas installé.</translation>
        </message>
        <message>
            <source>PipeWire makes no node (error {number})</source>
            <translation>PipeWire ne crée pas de nœud (erreur {number})</translation>
        </message>
        <message>
            <source>PipeWire runs, but cannot be used: {error}.</source>
            <translation>PipeWire tourne, mais ne peut pas être utilisé : {error}.</translation>
        </message>
        <message>
            <source>PipeWire runs, but you may not use it ({socket}).</source>
            <translation>PipeWire tourne, mais vous n'avez pas le droit de l'utiliser ({socket}).</translation>
        </message>
        <message>
            <source>PipeWire {version} runs, but without a session manager: no program would reach the camera.</source>
            <translation>PipeWire {version} tourne, mais sans gestionnaire de session : aucun programme n'atteindrait la caméra.</translation>
        </message>
        <message>
            <source>PipeWire {version} with {manager} can have the camera {name}, without a kernel module.</source>
            <translation>PipeWire {version} avec {manager} peut offrir la caméra {name}, sans module du noyau.</translation>
        </message>
        <message>
            <source>PipeWire's daemon cannot be reached; start it: systemctl --user start pipewire</source>
            <translation>le service de PipeWire est injoignable ; démarrez-le : systemctl --user start pipewire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be loaded ({error}); install PipeWire</source>
            <translation>la bibliothèque de PipeWire ne peut pas être chargée ({error}) ; installez PipeWire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its settings or plug-ins are missing; install PipeWire</source>
            <translation>la bibliothèque de PipeWire ne peut pas être utilisée : ses réglages ou extensions manquent ; installez PipeWire</translation>
        </message>
        <message>
            <source>PipeWire's library cannot be used: its thread does not start</source>
            <translation>la bibliothèque de PipeWire ne peut pas être utilisée : son thread ne démarre pas</translation>
        </message>
        <message>
            <source>PipeWire's library is too old: it lacks {name}; update PipeWire</source>
            <translation>la bibliothèque de PipeWire est trop ancienne : il lui manque {name} ; mettez PipeWire à jour</translation>
        </message>
        <message>
            <source>Play motion that was recorded before, in a loop, instead of a camera</source>
            <translation>Jouer en boucle un mouvement enregistré auparavant, à la place d'une caméra</translation>
        </message>
        <message>
            <source>Port</source>
            <translation>Port</translation>
        </message>
        <message>
            <source>Port of control from outside</source>
            <translation>Port du contrôle externe</translation>
        </message>
        <message>
            <source>Portrait</source>
            <translation>Portrait</translation>
        </message>
        <message>
            <source>Portrait over your picture: fainter</source>
            <translation>Portrait sur votre image : plus faible</translation>
        </message>
        <message>
            <source>Portrait over your picture: stronger</source>
            <translation>Portrait sur votre image : plus fort</translation>
        </message>
        <message>
            <source>Portrait size</source>
            <translation>Taille du portrait</translation>
        </message>
        <message>
            <source>Portraits</source>
            <translation>Portraits</translation>
        </message>
        <message>
            <source>Pose</source>
            <translation>Pose</translation>
        </message>
        <message>
            <source>Preset</source>
            <translation>Préréglage</translation>
        </message>
        <message>
            <source>Previous portrait</source>
            <translation>Portrait précédent</translation>
        </message>
        <message>
            <source>Processor</source>
            <translation>Processeur</translation>
        </message>
        <message>
            <source>Programs that show the token can control this window on port {port}.</source>
            <translation>Les programmes qui présentent le jeton peuvent contrôler cette fenêtre sur le port {port}.</translation>
        </message>
        <message>
            <source>Put recordings and snapshots elsewhere</source>
            <translation>Placer ailleurs les enregistrements et les instantanés</translation>
        </message>
        <message>
            <source>Put the crop back where the face is</source>
            <translation>Remettre le cadrage là où est le visage</translation>
        </message>
        <message>
            <source>Put the first steps away; they come back under Window</source>
            <translation>Ranger les premiers pas ; ils reviennent sous « Fenêtre »</translation>
        </message>
        <message>
            <source>Put the portrait back in the middle, in its usual size (a double click on the preview)</source>
            <translation>Remettre le portrait au milieu, à sa taille habituelle (double clic sur l'aperçu)</translation>
        </message>
        <message>
            <source>Put this message away</source>
            <translation>Masquer ce message</translation>
        </message>
        <message>
            <source>Qt's part for sound cannot be loaded ({error}); {remedy}</source>
            <translation>La partie de Qt pour le son ne peut pas être chargée ({error}) ; {remedy}</translation>
        </message>
        <message>
            <source>Quit</source>
            <translation>Quitter</translation>
        </message>
        <message>
            <source>Rate</source>
            <translation>Cadence</translation>
        </message>
        <message>
            <source>Read its card</source>
            <translation>Lire sa fiche</translation>
        </message>
        <message>
            <source>Recheck</source>
            <translation>Revérifier</translation>
        </message>
        <message>
            <source>Record</source>
            <translation>Enregistrer</translation>
        </message>
        <message>
            <source>Record my microphone</source>
            <translation>Enregistrer mon microphone</translation>
        </message>
        <message>
            <source>Record my motion</source>
            <translation>Enregistrer mon mouvement</translation>
        </message>
        <message>
            <source>Record the output (V)</source>
            <translation>Enregistrer la sortie (V)</translation>
        </message>
        <message>
            <source>Record your motion, without pictures, to play it on any portrait later</source>
            <translation>Enregistre votre mouvement, sans images, pour le jouer plus tard sur n'importe quel portrait</translation>
        </message>
        <message>
            <source>Record, or capture the window with your call program</source>
            <translation>Enregistrez, ou partagez la fenêtre avec votre programme d'appel</translation>
        </message>
        <message>
            <source>Recordings</source>
            <translation>Enregistrements</translation>
        </message>
        <message>
            <source>Recordings (WebM) and snapshots are transparent; the call sees this colour:</source>
            <translation>Les enregistrements (WebM) et instantanés sont transparents ; l'appel voit cette couleur :</translation>
        </message>
        <message>
            <source>Recordings and snapshots say, in a signed and standard way (C2PA), that AI generated them, and with which model; nothing of you. Others can read it, and can remove it.</source>
            <translation>Les enregistrements et instantanés disent, de façon signée et normalisée (C2PA), qu'une IA les a générés et avec quel modèle ; rien de vous. D'autres peuvent le lire, et peuvent le retirer.</translation>
        </message>
        <message>
            <source>Refresh</source>
            <translation>Actualiser</translation>
        </message>
        <message>
            <source>Refresh cameras</source>
            <translation>Actualiser les caméras</translation>
        </message>
        <message>
            <source>Refresh microphones</source>
            <translation>Actualiser les microphones</translation>
        </message>
        <message>
            <source>Remember the calibration</source>
            <translation>Retenir le calibrage</translation>
        </message>
        <message>
            <source>Remove</source>
            <translation>Retirer</translation>
        </message>
        <message>
            <source>Remove it</source>
            <translation>Le retirer</translation>
        </message>
        <message>
            <source>Rename</source>
            <translation>Renommer</translation>
        </message>
        <message>
            <source>Rename a portrait of yours</source>
            <translation>Renommer un portrait à vous</translation>
        </message>
        <message>
            <source>Rename a preset</source>
            <translation>Renommer un préréglage</translation>
        </message>
        <message>
            <source>Rename…</source>
            <translation>Renommer…</translation>
        </message>
        <message>
            <source>Reset the place</source>
            <translation>Réinitialiser la place</translation>
        </message>
        <message>
            <source>Rests still</source>
            <translation>Reste immobile</translation>
        </message>
        <message>
            <source>SLATE</source>
            <translation>ATTENTE</translation>
        </message>
        <message>
            <source>STANDBY</source>
            <translation>EN VEILLE</translation>
        </message>
        <message>
            <source>STARTING</source>
            <translation>DÉMARRAGE</translation>
        </message>
        <message>
            <source>Save</source>
            <translation>Enregistrer</translation>
        </message>
        <message>
            <source>Save a picture of the output</source>
            <translation>Enregistrer une image de la sortie</translation>
        </message>
        <message>
            <source>Save a picture of the output (P)</source>
            <translation>Enregistrer une image de la sortie (P)</translation>
        </message>
        <message>
            <source>Save a preset</source>
            <translation>Enregistrer un préréglage</translation>
        </message>
        <message>
            <source>Save as…</source>
            <translation>Enregistrer sous…</translation>
        </message>
        <message>
            <source>Saved: {path}</source>
            <translation>Enregistré : {path}</translation>
        </message>
        <message>
            <source>Says in the picture that it is synthetic. Please leave it on when others watch.</source>
            <translation>Indique dans l'image qu'elle est synthétique. Laissez-le quand d'autres regardent, s'il vous plaît.</translation>
        </message>
        <message>
            <source>Scene</source>
            <translation>Scène</translation>
        </message>
        <message>
            <source>Score of the portrait</source>
            <translation>Note du portrait</translation>
        </message>
        <message>
            <source>Score {score} of 100</source>
            <translation>Note {score} sur 100</translation>
        </message>
        <message>
            <source>Score {score} of 100: {remarks}</source>
            <translation>Note {score} sur 100 : {remarks}</translation>
        </message>
        <message>
            <source>Secure Boot is on: if modprobe says that the key was rejected, enrol the key that signs the module, restart, and confirm it in the blue menu</source>
            <translation>Secure Boot est activé : si modprobe dit que la clé a été rejetée, inscrivez la clé qui signe le module, redémarrez et confirmez-la dans le menu bleu</translation>
        </message>
        <message>
            <source>See and adjust the crop</source>
            <translation>Voir et ajuster le cadrage</translation>
        </message>
        <message>
            <source>See which program it is, and close it</source>
            <translation>Voyez quel programme c'est, et fermez-le</translation>
        </message>
        <message>
            <source>Settings &gt; Privacy &amp; security &gt; Camera</source>
            <translation>Paramètres &gt; Confidentialité et sécurité &gt; Caméra</translation>
        </message>
        <message>
            <source>Sharpness</source>
            <translation>Netteté</translation>
        </message>
        <message>
            <source>Shift</source>
            <translation>Décalage</translation>
        </message>
        <message>
            <source>Shoulders, hair and the room are seen as far as the photo shows them, not the portrait's square alone.</source>
            <translation>Les épaules, les cheveux et la pièce se voient aussi loin que la photo les montre, et pas seulement le carré du portrait.</translation>
        </message>
        <message>
            <source>Show below what is measured (I).</source>
            <translation>Affiche plus bas ce qui est mesuré (I).</translation>
        </message>
        <message>
            <source>Show me the output as in a mirror (R), but for the badge; the call sees it unchanged.</source>
            <translation>Me montre la sortie comme dans un miroir (R), sauf le badge ; l'appel la voit inchangée.</translation>
        </message>
        <message>
            <source>Show my camera picture</source>
            <translation>Montrer l'image de ma caméra</translation>
        </message>
        <message>
            <source>Show no face at once (0; from a dialog Ctrl+0)</source>
            <translation>Ne montrer aucun visage, tout de suite (0 ; depuis une boîte de dialogue Ctrl+0)</translation>
        </message>
        <message>
            <source>Show or hide my camera picture</source>
            <translation>Montrer ou masquer l'image de ma caméra</translation>
        </message>
        <message>
            <source>Show the avatar in the preview again (G)</source>
            <translation>Montrer à nouveau l'avatar dans l'aperçu (G)</translation>
        </message>
        <message>
            <source>Show the avatar to the call (G)</source>
            <translation>Montrer l'avatar à l'appel (G)</translation>
        </message>
        <message>
            <source>Show the checklist of the first launch.</source>
            <translation>Affiche la liste du premier lancement.</translation>
        </message>
        <message>
            <source>Show the controls here</source>
            <translation>Montrer les commandes ici</translation>
        </message>
        <message>
            <source>Show the folder of recordings and snapshots</source>
            <translation>Montrer le dossier des enregistrements et des instantanés</translation>
        </message>
        <message>
            <source>Show the next step</source>
            <translation>Montrer l'étape suivante</translation>
        </message>
        <message>
            <source>Show the portraits here</source>
            <translation>Montrer les portraits ici</translation>
        </message>
        <message>
            <source>Show the slate without a picture again</source>
            <translation>Montrer à nouveau l'écran d'attente sans image</translation>
        </message>
        <message>
            <source>Show the whole photo</source>
            <translation>Montrer toute la photo</translation>
        </message>
        <message>
            <source>Show what the network does with your motion (N).</source>
            <translation>Montre ce que le réseau fait de votre mouvement (N).</translation>
        </message>
        <message>
            <source>Show window</source>
            <translation>Montrer la fenêtre</translation>
        </message>
        <message>
            <source>Shows the portrait's own pores and hairs, which the network leaves out, as far as its picture has the pixels. It takes some milliseconds per picture: switch it off if the avatar stutters.</source>
            <translation>Montre les pores et les cheveux du portrait lui-même, que le réseau laisse de côté, autant que son image a de pixels. Cela coûte quelques millisecondes par image : désactivez-le si l'avatar est saccadé.</translation>
        </message>
        <message>
            <source>Shows the slate from every window: press the key that you want, such as Ctrl+Alt+0.</source>
            <translation>Montre l'écran d'attente depuis toute fenêtre : appuyez sur la touche voulue, par exemple Ctrl+Alt+0.</translation>
        </message>
        <message>
            <source>Sideways</source>
            <translation>De côté</translation>
        </message>
        <message>
            <source>Silent while you show the slate.</source>
            <translation>Muet tant que vous montrez l'écran d'attente.</translation>
        </message>
        <message>
            <source>Size</source>
            <translation>Taille</translation>
        </message>
        <message>
            <source>Slate</source>
            <translation>Attente</translation>
        </message>
        <message>
            <source>Slate at once: the call sees no face</source>
            <translation>Écran d'attente immédiat : l'appel ne voit aucun visage</translation>
        </message>
        <message>
            <source>Slate key</source>
            <translation>Touche d'attente</translation>
        </message>
        <message>
            <source>Slate says</source>
            <translation>Texte</translation>
        </message>
        <message>
            <source>Slate's picture…</source>
            <translation>Image d'attente…</translation>
        </message>
        <message>
            <source>Smoothing</source>
            <translation>Lissage</translation>
        </message>
        <message>
            <source>Snapshot</source>
            <translation>Instantané</translation>
        </message>
        <message>
            <source>Something unexpected went wrong ({key}): {error}.</source>
            <translation>Quelque chose d'inattendu s'est mal passé ({key}) : {error}.</translation>
        </message>
        <message>
            <source>Something unexpected went wrong in the window: {kind}: {error}. The log tells more.</source>
            <translation>Quelque chose d'inattendu s'est mal passé dans la fenêtre : {kind} : {error}. Le journal en dit plus.</translation>
        </message>
        <message>
            <source>Sound</source>
            <translation>Son</translation>
        </message>
        <message>
            <source>Speak as you will in the recording: the bar should reach the middle, and not turn red.</source>
            <translation>Parlez comme vous le ferez dans l'enregistrement : la barre doit atteindre le milieu sans devenir rouge.</translation>
        </message>
        <message>
            <source>Speed here: not measured yet</source>
            <translation>Vitesse ici : pas encore mesurée</translation>
        </message>
        <message>
            <source>Speed here: {frame_ms:.3g} ms per frame, measured</source>
            <translation>Vitesse ici : {frame_ms:.3g} ms par image, mesurée</translation>
        </message>
        <message>
            <source>Square to animate</source>
            <translation>Carré à animer</translation>
        </message>
        <message>
            <source>Standard</source>
            <translation>Standard</translation>
        </message>
        <message>
            <source>Start PipeWire again</source>
            <translation>Redémarrez PipeWire</translation>
        </message>
        <message>
            <source>Start again</source>
            <translation>Redémarrer</translation>
        </message>
        <message>
            <source>Start as usual</source>
            <translation>Démarrer comme d'habitude</translation>
        </message>
        <message>
            <source>Start it, now and at every login</source>
            <translation>Démarrez-le, maintenant et à chaque ouverture de session</translation>
        </message>
        <message>
            <source>Start or stop the recording</source>
            <translation>Commencer ou arrêter l'enregistrement</translation>
        </message>
        <message>
            <source>Start safely</source>
            <translation>Démarrage sûr</translation>
        </message>
        <message>
            <source>Start the app as the user who is logged in, and not with sudo</source>
            <translation>Démarrez l'application en tant qu'utilisateur connecté, et non avec sudo</translation>
        </message>
        <message>
            <source>Statistics</source>
            <translation>Statistiques</translation>
        </message>
        <message>
            <source>Status</source>
            <translation>État</translation>
        </message>
        <message>
            <source>Step {number}, {title}: {state}. {text}</source>
            <translation>Étape {number}, {title} : {state}. {text}</translation>
        </message>
        <message>
            <source>Step {step} of {steps}</source>
            <translation>Étape {step} sur {steps}</translation>
        </message>
        <message>
            <source>Still learning: step unknown</source>
            <translation>Apprend encore : étape inconnue</translation>
        </message>
        <message>
            <source>Still learning: step {step}</source>
            <translation>Apprend encore : étape {step}</translation>
        </message>
        <message>
            <source>Still learning: step {step} of {of}</source>
            <translation>Apprend encore : étape {step} sur {of}</translation>
        </message>
        <message>
            <source>Stop</source>
            <translation>Arrêter</translation>
        </message>
        <message>
            <source>Stop everything and quit</source>
            <translation>Tout arrêter et quitter</translation>
        </message>
        <message>
            <source>Stop painting it, as saves power; the call and recordings go on.</source>
            <translation>Ne le dessine plus, ce qui économise de l'énergie ; l'appel et les enregistrements continuent.</translation>
        </message>
        <message>
            <source>Stop recording</source>
            <translation>Arrêter l'enregistrement</translation>
        </message>
        <message>
            <source>Stop recording my motion</source>
            <translation>Arrêter l'enregistrement de mon mouvement</translation>
        </message>
        <message>
            <source>Stop the virtual camera in OBS</source>
            <translation>Arrêtez la caméra virtuelle dans OBS</translation>
        </message>
        <message>
            <source>Straighten</source>
            <translation>Redresser</translation>
        </message>
        <message>
            <source>Strengths of motion and expression, with all their parts, by name. Each portrait remembers its own.</source>
            <translation>Intensités du mouvement et de l'expression, avec toutes leurs parties, sous un nom. Chaque portrait retient les siennes.</translation>
        </message>
        <message>
            <source>Switch on</source>
            <translation>Activer</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: a call keeps what it began with.</source>
            <translation>Désactivez d'abord la caméra virtuelle : un appel garde ce avec quoi il a commencé.</translation>
        </message>
        <message>
            <source>Switch the virtual camera off first: no model runs.</source>
            <translation>Désactivez d'abord la caméra virtuelle : aucun modèle ne tourne.</translation>
        </message>
        <message>
            <source>System</source>
            <translation>Système</translation>
        </message>
        <message>
            <source>System Settings &gt; Privacy &amp; Security &gt; Camera</source>
            <translation>Réglages Système &gt; Confidentialité et sécurité &gt; Appareil photo</translation>
        </message>
        <message>
            <source>Take this picture of yours out of the gallery (Delete)</source>
            <translation>Retirer de la galerie cette image à vous (Suppr)</translation>
        </message>
        <message>
            <source>Text of the slate</source>
            <translation>Texte de l'écran d'attente</translation>
        </message>
        <message>
            <source>The address that the camera's app shows, such as http://192.168.1.20:8080/video or rtsp://192.168.1.20/live.
If it wants a password: http://USER:PASSWORD@192.168.1.20:8080/video</source>
            <translation>L'adresse qu'affiche l'application de la caméra, par exemple http://192.168.1.20:8080/video ou rtsp://192.168.1.20/live.
Si elle demande un mot de passe : http://USER:PASSWORD@192.168.1.20:8080/video</translation>
        </message>
        <message>
            <source>The app did not end in order last time: it crashed or was killed.</source>
            <translation>L'application ne s'est pas terminée correctement la dernière fois : elle a planté ou a été tuée.</translation>
        </message>
        <message>
            <source>The avatar keeps its own face and looks where you look, however you were turned at the calibration.</source>
            <translation>L'avatar garde son propre visage et regarde où vous regardez, quelle que soit votre orientation lors du calibrage.</translation>
        </message>
        <message>
            <source>The avatar moves as you move in the picture since the calibration: the paper's way.</source>
            <translation>L'avatar bouge comme vous bougez dans l'image depuis le calibrage : la manière de l'article.</translation>
        </message>
        <message>
            <source>The avatar takes your very pose and face: for a portrait of yourself.</source>
            <translation>L'avatar prend exactement votre pose et votre visage : pour un portrait de vous-même.</translation>
        </message>
        <message>
            <source>The background stays still behind the person, instead of moving along with the head.</source>
            <translation>L'arrière-plan reste immobile derrière la personne, au lieu de bouger avec la tête.</translation>
        </message>
        <message>
            <source>The brows raised and knit.</source>
            <translation>Les sourcils levés et froncés.</translation>
        </message>
        <message>
            <source>The camera that sees you. Only the avatar leaves this app, never its picture.</source>
            <translation>La caméra qui vous voit. Seul l'avatar quitte cette application, jamais l'image de la caméra.</translation>
        </message>
        <message>
            <source>The camera {name} is away ({error}). It comes back by itself.</source>
            <translation>La caméra {name} est partie ({error}). Elle revient d'elle-même.</translation>
        </message>
        <message>
            <source>The card beside {name} is of other weights: do not trust what it says.</source>
            <translation>La fiche à côté de {name} est celle d'autres poids : ne vous y fiez pas.</translation>
        </message>
        <message>
            <source>The first nine portraits</source>
            <translation>Les neuf premiers portraits</translation>
        </message>
        <message>
            <source>The folder {folder} does not answer: what goes there waits for it. Choose another folder under “Output and computer” if it stays so.</source>
            <translation>Le dossier {folder} ne répond pas : ce qui doit y aller l'attend. Choisissez un autre dossier sous « Sortie et ordinateur » si cela dure.</translation>
        </message>
        <message>
            <source>The head leant towards a shoulder.</source>
            <translation>La tête penchée vers une épaule.</translation>
        </message>
        <message>
            <source>The head moved in the picture.</source>
            <translation>La tête déplacée dans l'image.</translation>
        </message>
        <message>
            <source>The head moved towards the camera and away from it.</source>
            <translation>La tête approchée et éloignée de la caméra.</translation>
        </message>
        <message>
            <source>The head raised and lowered.</source>
            <translation>La tête levée et baissée.</translation>
        </message>
        <message>
            <source>The head turned to the sides.</source>
            <translation>La tête tournée sur les côtés.</translation>
        </message>
        <message>
            <source>The key is not heard: {why}.</source>
            <translation>La touche n'est pas écoutée : {why}.</translation>
        </message>
        <message>
            <source>The language changes at the next start of the app.</source>
            <translation>La langue change au prochain démarrage de l'application.</translation>
        </message>
        <message>
            <source>The microphone for calls is being made…</source>
            <translation>Création du microphone pour appels…</translation>
        </message>
        <message>
            <source>The microphone is being opened…</source>
            <translation>Ouverture du microphone…</translation>
        </message>
        <message>
            <source>The model has given no picture for a while, so the output shows the slate. It goes on by itself once there is one; if it stays so, start again.</source>
            <translation>Le modèle n'a pas donné d'image depuis un moment, la sortie montre donc l'écran d'attente. Elle reprend d'elle-même dès qu'il y en a une ; si rien ne change, redémarrez.</translation>
        </message>
        <message>
            <source>The model's card</source>
            <translation>La fiche du modèle</translation>
        </message>
        <message>
            <source>The network that animates the portrait: the bundled one, or a file or folder of yours.</source>
            <translation>Le réseau qui anime le portrait : celui fourni, ou un fichier ou un dossier à vous.</translation>
        </message>
        <message>
            <source>The one chosen before</source>
            <translation>Celui choisi auparavant</translation>
        </message>
        <message>
            <source>The output shows the slate.</source>
            <translation>La sortie montre l'écran d'attente.</translation>
        </message>
        <message>
            <source>The picture is that late. Set this delay for your microphone (OBS: Advanced audio properties, sync offset) and lips and sound agree.</source>
            <translation>L'image a ce retard. Réglez ce délai pour votre microphone (OBS : propriétés audio avancées, décalage de synchronisation) et les lèvres suivront le son.</translation>
        </message>
        <message>
            <source>The portrait over your picture (Z and C); for motion in the plane, to line up the pose.</source>
            <translation>Le portrait sur votre image (Z et C) ; pour le mouvement dans le plan, pour aligner la pose.</translation>
        </message>
        <message>
            <source>The portrait {first} is not in the gallery any more; {name} is used.</source>
            <translation>Le portrait {first} n'est plus dans la galerie ; {name} est utilisé.</translation>
        </message>
        <message>
            <source>The portrait's own, blurred</source>
            <translation>Celui du portrait, flouté</translation>
        </message>
        <message>
            <source>The portrait's own, still</source>
            <translation>Celui du portrait, immobile</translation>
        </message>
        <message>
            <source>The portrait, moved and nothing else</source>
            <translation>Le portrait, déplacé et rien d'autre</translation>
        </message>
        <message>
            <source>The preset {name} has these strengths now.</source>
            <translation>Le préréglage {name} a maintenant ces intensités.</translation>
        </message>
        <message>
            <source>The preset {name} was deleted.</source>
            <translation>Le préréglage {name} a été supprimé.</translation>
        </message>
        <message>
            <source>The presets could not be read ({error}). There are none for now; {kept}.</source>
            <translation>Les préréglages n'ont pas pu être lus ({error}). Il n'y en a pas pour l'instant ; {kept}.</translation>
        </message>
        <message>
            <source>The preview is paused; the output goes on.</source>
            <translation>L'aperçu est suspendu ; la sortie continue.</translation>
        </message>
        <message>
            <source>The recording goes on without sound, which failed ({error}). For sound, begin another one.</source>
            <translation>L'enregistrement continue sans le son, qui a échoué ({error}). Pour le son, commencez-en un autre.</translation>
        </message>
        <message>
            <source>The recording had not begun: there is no file.</source>
            <translation>L'enregistrement n'avait pas commencé : il n'y a pas de fichier.</translation>
        </message>
        <message>
            <source>The recording has no sound, since its encoder cannot be opened ({error}). Install the app again.</source>
            <translation>L'enregistrement n'a pas de son, car son encodeur ne peut pas être ouvert ({error}). Réinstallez l'application.</translation>
        </message>
        <message>
            <source>The recording of your motion ended: {why}.</source>
            <translation>L'enregistrement de votre mouvement s'est terminé : {why}.</translation>
        </message>
        <message>
            <source>The same, from a dialog for files or colours too</source>
            <translation>De même, depuis une boîte de dialogue de fichiers ou de couleurs aussi</translation>
        </message>
        <message>
            <source>The settings could not be read ({error}). Defaults are in use; {kept}.</source>
            <translation>Les réglages n'ont pas pu être lus ({error}). Ceux par défaut sont utilisés ; {kept}.</translation>
        </message>
        <message>
            <source>The slate cannot show {characters}. Leave that out, or choose a picture that shows it for the slate.</source>
            <translation>L'écran d'attente ne peut pas afficher {characters}. Retirez-le, ou choisissez une image d'attente qui le montre.</translation>
        </message>
        <message>
            <source>The slate key is not heard: {why}.</source>
            <translation>La touche d'attente n'est pas écoutée : {why}.</translation>
        </message>
        <message>
            <source>The system does not let this app use the camera. Allow it in System Settings, Privacy.</source>
            <translation>Le système ne laisse pas cette application utiliser la caméra. Autorisez-la dans les Réglages Système, Confidentialité.</translation>
        </message>
        <message>
            <source>The system is asked for the key…</source>
            <translation>La touche est demandée au système…</translation>
        </message>
        <message>
            <source>The system's usual one</source>
            <translation>Celui par défaut du système</translation>
        </message>
        <message>
            <source>The virtual camera {called} does not answer ({cause}).</source>
            <translation>La caméra virtuelle {called} ne répond pas ({cause}).</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by another program.</source>
            <translation>La caméra virtuelle {called} est utilisée par un autre programme.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is in use by {by}.</source>
            <translation>La caméra virtuelle {called} est utilisée par {by}.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready, but Chrome and Teams will not list it (exclusive_caps=0).</source>
            <translation>La caméra virtuelle {called} est prête, mais Chrome et Teams ne la proposeront pas (exclusive_caps=0).</translation>
        </message>
        <message>
            <source>The virtual camera {called} is ready.</source>
            <translation>La caméra virtuelle {called} est prête.</translation>
        </message>
        <message>
            <source>The virtual camera {called} is there, but you may not use it.</source>
            <translation>La caméra virtuelle {called} est là, mais vous n'avez pas le droit de l'utiliser.</translation>
        </message>
        <message>
            <source>The virtual camera {called} takes our pictures.</source>
            <translation>La caméra virtuelle {called} prend nos images.</translation>
        </message>
        <message>
            <source>The virtual camera {name} is ready.</source>
            <translation>La caméra virtuelle {name} est prête.</translation>
        </message>
        <message>
            <source>The {camera} is in use: OBS itself or another program writes to it.</source>
            <translation>{camera} est utilisée : OBS lui-même ou un autre programme y écrit.</translation>
        </message>
        <message>
            <source>The {camera} is installed, but you have not approved it yet.</source>
            <translation>{camera} est installée, mais vous ne l'avez pas encore autorisée.</translation>
        </message>
        <message>
            <source>The {camera} is ready.</source>
            <translation>{camera} est prête.</translation>
        </message>
        <message>
            <source>Theme</source>
            <translation>Thème</translation>
        </message>
        <message>
            <source>There is no face in this square of {name}: move the square over a face that looks towards the camera, or choose the automatic crop.</source>
            <translation>Il n'y a pas de visage dans ce carré de {name} : déplacez-le sur un visage tourné vers la caméra, ou choisissez le cadrage automatique.</translation>
        </message>
        <message>
            <source>There is no folder {folder} to open yet: it is made with the first recording or snapshot.</source>
            <translation>Le dossier {folder} n'existe pas encore : il est créé avec le premier enregistrement ou le premier instantané.</translation>
        </message>
        <message>
            <source>There is no picture in the clipboard: copy one first.</source>
            <translation>Il n'y a pas d'image dans le presse-papiers : copiez-en d'abord une.</translation>
        </message>
        <message>
            <source>There is no picture in the folder {folder}: choose one that has some.</source>
            <translation>Aucune image dans le dossier {folder} : choisissez-en un qui en contient.</translation>
        </message>
        <message>
            <source>There is no picture yet to save.</source>
            <translation>Il n'y a pas encore d'image à enregistrer.</translation>
        </message>
        <message>
            <source>There is no virtual camera at {device}: got {what}, expected a device of v4l2loopback.</source>
            <translation>Il n'y a pas de caméra virtuelle à {device} : trouvé : {what}, attendu : un périphérique v4l2loopback.</translation>
        </message>
        <message>
            <source>There is no virtual camera for {system}: expected Linux, Windows or macOS.</source>
            <translation>Il n'y a pas de caméra virtuelle pour {system} : il faut Linux, Windows ou macOS.</translation>
        </message>
        <message>
            <source>There is no virtual camera in a safe start: start the app again.</source>
            <translation>Il n'y a pas de caméra virtuelle lors d'un démarrage sûr : redémarrez l'application.</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera} or UnityCapture's.</source>
            <translation>Il n'y a pas de caméra virtuelle {device} : il faut {camera} ou celle d'UnityCapture.</translation>
        </message>
        <message>
            <source>There is no virtual camera {device}: expected {camera}.</source>
            <translation>Il n'y a pas de caméra virtuelle {device} : il faut {camera}.</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS Studio brings one.</source>
            <translation>Il n'y a pas de caméra virtuelle : OBS Studio en apporte une.</translation>
        </message>
        <message>
            <source>There is no virtual camera: OBS is installed, its camera not yet ({camera}).</source>
            <translation>Il n'y a pas de caméra virtuelle : OBS est installé, mais pas encore sa caméra ({camera}).</translation>
        </message>
        <message>
            <source>There is no virtual camera: got macOS {release}, expected 13 or newer.</source>
            <translation>Il n'y a pas de caméra virtuelle : ceci est macOS {release}, il faut 13 ou plus récent.</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is installed, but not loaded.</source>
            <translation>Il n'y a pas de caméra virtuelle : v4l2loopback est installé, mais pas chargé.</translation>
        </message>
        <message>
            <source>There is no virtual camera: v4l2loopback is not installed for the kernel {kernel}.</source>
            <translation>Il n'y a pas de caméra virtuelle : v4l2loopback n'est pas installé pour le noyau {kernel}.</translation>
        </message>
        <message>
            <source>There is nothing to record at the moment: wait until the preview goes on.</source>
            <translation>Il n'y a rien à enregistrer pour l'instant : attendez que l'aperçu reprenne.</translation>
        </message>
        <message>
            <source>This is a safe start: the processor computes, there is no virtual camera, and all settings are the defaults. Nothing of them is kept; your own are back with the next start.</source>
            <translation>Ceci est un démarrage sûr : le processeur calcule, il n'y a pas de caméra virtuelle et tous les réglages sont ceux par défaut. Rien n'en est conservé ; les vôtres reviennent au prochain démarrage.</translation>
        </message>
        <message>
            <source>This is only the address of a picture: copy the picture itself, or save it and add the file.</source>
            <translation>Ce n’est que l’adresse d’une image : copiez l’image elle-même, ou enregistrez-la et ajoutez le fichier.</translation>
        </message>
        <message>
            <source>This list</source>
            <translation>Cette liste</translation>
        </message>
        <message>
            <source>This portrait's own</source>
            <translation>Celles de ce portrait</translation>
        </message>
        <message>
            <source>Tick first that you may use this picture</source>
            <translation>Confirmez d'abord que vous avez le droit d'utiliser cette image</translation>
        </message>
        <message>
            <source>Tilt</source>
            <translation>Inclinaison</translation>
        </message>
        <message>
            <source>Trying again in {seconds} s.</source>
            <translation>Nouvel essai dans {seconds} s.</translation>
        </message>
        <message>
            <source>Turn</source>
            <translation>Rotation</translation>
        </message>
        <message>
            <source>Turn to the left</source>
            <translation>Tourner à gauche</translation>
        </message>
        <message>
            <source>Turn to the left by a quarter (Page Up)</source>
            <translation>Tourner d'un quart à gauche (Page préc.)</translation>
        </message>
        <message>
            <source>Turn to the right</source>
            <translation>Tourner à droite</translation>
        </message>
        <message>
            <source>Turn to the right by a quarter (Page Down)</source>
            <translation>Tourner d'un quart à droite (Page suiv.)</translation>
        </message>
        <message>
            <source>Turns the picture a little (comma and full stop).</source>
            <translation>Tourne un peu l'image (virgule et point).</translation>
        </message>
        <message>
            <source>Undo</source>
            <translation>Annuler</translation>
        </message>
        <message>
            <source>Up and down</source>
            <translation>De haut en bas</translation>
        </message>
        <message>
            <source>Update macOS</source>
            <translation>Mettez macOS à jour</translation>
        </message>
        <message>
            <source>Use a video file…</source>
            <translation>Fichier vidéo…</translation>
        </message>
        <message>
            <source>Use a video, in a loop, instead of a camera</source>
            <translation>Utiliser une vidéo, en boucle, à la place d'une caméra</translation>
        </message>
        <message>
            <source>Use it all the same</source>
            <translation>L'utiliser quand même</translation>
        </message>
        <message>
            <source>Use this camera</source>
            <translation>Utiliser cette caméra</translation>
        </message>
        <message>
            <source>Use this portrait</source>
            <translation>Utiliser ce portrait</translation>
        </message>
        <message>
            <source>Videos ({endings});;All files (*)</source>
            <translation>Vidéos ({endings});;Tous les fichiers (*)</translation>
        </message>
        <message>
            <source>View</source>
            <translation>Affichage</translation>
        </message>
        <message>
            <source>Views</source>
            <translation>Vues</translation>
        </message>
        <message>
            <source>Virtual camera</source>
            <translation>Caméra virtuelle</translation>
        </message>
        <message>
            <source>Warped</source>
            <translation>Déformé</translation>
        </message>
        <message>
            <source>What is missing before going live</source>
            <translation>Ce qui manque avant de passer en direct</translation>
        </message>
        <message>
            <source>What is missing, and what to do</source>
            <translation>Ce qui manque et ce qu'il faut faire</translation>
        </message>
        <message>
            <source>What is seen around the portrait, or behind the person.</source>
            <translation>Ce qu'on voit autour du portrait, ou derrière la personne.</translation>
        </message>
        <message>
            <source>What other programs have to show; keep it secret</source>
            <translation>Ce que les autres programmes doivent présenter ; gardez-le secret</translation>
        </message>
        <message>
            <source>What the avatar does while your face is lost, until the slate comes; it moves with measured keypoints.</source>
            <translation>Ce que fait l'avatar tant que votre visage est perdu, jusqu'à l'écran d'attente ; il bouge avec des points clés mesurés.</translation>
        </message>
        <message>
            <source>What the decoder makes of it, with the memory's help</source>
            <translation>Ce que le décodeur en fait, avec l'aide de la mémoire</translation>
        </message>
        <message>
            <source>What the marked place takes from the memory; click to mark another one</source>
            <translation>Ce que l'endroit marqué prend dans la mémoire ; cliquez pour en marquer un autre</translation>
        </message>
        <message>
            <source>What the network does inside</source>
            <translation>Ce que le réseau fait à l'intérieur</translation>
        </message>
        <message>
            <source>What the run has learned since cannot be used: {error}. What it had learned before goes on.</source>
            <translation>Ce que l'entraînement a appris depuis ne peut pas être utilisé : {error}. Ce qu'il avait appris avant reste en usage.</translation>
        </message>
        <message>
            <source>What the slate says instead of “Camera is off” or “Be right back”; Enter keeps it.</source>
            <translation>Ce que dit l'écran d'attente au lieu de « Camera is off » ou « Be right back » ; Entrée le garde.</translation>
        </message>
        <message>
            <source>What to do</source>
            <translation>Ce qu'il faut faire</translation>
        </message>
        <message>
            <source>What will be animated</source>
            <translation>Ce qui sera animé</translation>
        </message>
        <message>
            <source>Where other programs ask; Enter keeps it. 0: any port that is free.</source>
            <translation>Où les autres programmes s'adressent ; Entrée le garde. 0 : n'importe quel port libre.</translation>
        </message>
        <message>
            <source>Where the eyes look.</source>
            <translation>Où se portent les yeux.</translation>
        </message>
        <message>
            <source>Where the model runs. Automatic: where it was measured to be fastest.</source>
            <translation>Où tourne le modèle. Automatique : là où il a été mesuré le plus rapide.</translation>
        </message>
        <message>
            <source>Where the portrait stands; it can be dragged in the preview.</source>
            <translation>Où se tient le portrait ; on peut le faire glisser dans l'aperçu.</translation>
        </message>
        <message>
            <source>Where what is shown came from: the direction as a hue, 20 px and more in full colour</source>
            <translation>D'où vient ce qui est montré : la direction par la teinte, pleine couleur à partir de 20 px</translation>
        </message>
        <message>
            <source>Which keypoint's motion moves each place, by colour; dark: the background's</source>
            <translation>Quel point clé déplace chaque endroit, par couleur ; sombre : l'arrière-plan</translation>
        </message>
        <message>
            <source>While away</source>
            <translation>En absence</translation>
        </message>
        <message>
            <source>Whose sound recordings have, and calls that take the microphone for calls.</source>
            <translation>Le son de qui est dans les enregistrements, et dans les appels qui prennent le microphone pour appels.</translation>
        </message>
        <message>
            <source>Window</source>
            <translation>Fenêtre</translation>
        </message>
        <message>
            <source>Windows gives the key to this app</source>
            <translation>Windows donne la touche à cette application</translation>
        </message>
        <message>
            <source>Without</source>
            <translation>Sans</translation>
        </message>
        <message>
            <source>Yellow: the moved portrait is trusted; blue: the picture is generated</source>
            <translation>Jaune : on se fie au portrait déplacé ; bleu : l'image est générée</translation>
        </message>
        <message>
            <source>You are not asked to calibrate again before the same camera. What your face measures is kept on this computer for that, for your account alone; switched off, it is deleted.</source>
            <translation>On ne vous redemande pas de calibrer devant la même caméra. Les mesures de votre visage sont pour cela gardées sur cet ordinateur, pour votre compte seul ; désactivé, elles sont supprimées.</translation>
        </message>
        <message>
            <source>You, as only you see yourself</source>
            <translation>Vous, comme vous seul vous voyez</translation>
        </message>
        <message>
            <source>You, with the crop that moves the avatar. Nobody else sees this. Click for another size.</source>
            <translation>Vous, avec le cadrage qui anime l'avatar. Personne d'autre ne voit ceci. Cliquez pour une autre taille.</translation>
        </message>
        <message>
            <source>Your own picture in the preview's corner (B). Hide it before you share this window.</source>
            <translation>Votre propre image dans le coin de l'aperçu (B). Masquez-la avant de partager cette fenêtre.</translation>
        </message>
        <message>
            <source>Zoom</source>
            <translation>Zoom</translation>
        </message>
        <message>
            <source>Zoom in on you</source>
            <translation>Zoomer sur vous</translation>
        </message>
        <message>
            <source>Zoom out</source>
            <translation>Zoom arrière</translation>
        </message>
        <message>
            <source>a camera's number (0), a device (/dev/video0), a network camera's address (http://, rtsp://), a video or motion file, or a folder of pictures</source>
            <translation>le numéro d'une caméra (0), un périphérique (/dev/video0), l'adresse d'une caméra réseau (http://, rtsp://), un fichier vidéo ou de mouvement, ou un dossier d'images</translation>
        </message>
        <message>
            <source>a frame of the model takes {best}</source>
            <translation>une image du modèle prend {best}</translation>
        </message>
        <message>
            <source>a frame of the model takes {best} ({others})</source>
            <translation>une image du modèle prend {best} ({others})</translation>
        </message>
        <message>
            <source>a further GPU</source>
            <translation>un autre GPU</translation>
        </message>
        <message>
            <source>a list of whole numbers</source>
            <translation>une liste de nombres entiers</translation>
        </message>
        <message>
            <source>a motion file has no pictures in which this model could detect keypoints: choose a model and a portrait whose keypoints can be measured, as the starter and any portrait with a face</source>
            <translation>un fichier de mouvement n'a pas d'images où ce modèle pourrait détecter des points clés : choisissez un modèle et un portrait dont les points clés peuvent être mesurés, comme starter et tout portrait avec un visage</translation>
        </message>
        <message>
            <source>a motion file has no pictures, so that it moves the avatar in space only: choose that motion</source>
            <translation>un fichier de mouvement n'a pas d'images, il n'anime donc l'avatar que dans l'espace : choisissez ce mouvement</translation>
        </message>
        <message>
            <source>a motion file takes no more than {hours} hours</source>
            <translation>un fichier de mouvement contient au plus {hours} heures</translation>
        </message>
        <message>
            <source>a number of thousands of digits</source>
            <translation>un nombre de milliers de chiffres</translation>
        </message>
        <message>
            <source>a picture becomes a portrait, a video the camera</source>
            <translation>une image devient un portrait, une vidéo la caméra</translation>
        </message>
        <message>
            <source>a portrait needs a name: got an empty one for {name}, so it keeps its own</source>
            <translation>un portrait a besoin d'un nom : celui donné pour {name} est vide, il garde donc le sien</translation>
        </message>
        <message>
            <source>a single number</source>
            <translation>un seul nombre</translation>
        </message>
        <message>
            <source>a table of values</source>
            <translation>un tableau de valeurs</translation>
        </message>
        <message>
            <source>about {rate_hz:.2g} frames per second are too slow for a call: close what else is running and press Measure under First steps, or use a computer with a GPU</source>
            <translation>environ {rate_hz:.2g} images par seconde, c'est trop lent pour un appel : fermez ce qui tourne d'autre et cliquez sur « Mesurer » dans « Premiers pas », ou utilisez un ordinateur avec un GPU</translation>
        </message>
        <message>
            <source>age</source>
            <translation>âge</translation>
        </message>
        <message>
            <source>an AMD GPU</source>
            <translation>un GPU AMD</translation>
        </message>
        <message>
            <source>an NVIDIA GPU</source>
            <translation>un GPU NVIDIA</translation>
        </message>
        <message>
            <source>an empty file</source>
            <translation>un fichier vide</translation>
        </message>
        <message>
            <source>an even width at {size_px} px (compensated)</source>
            <translation>une largeur paire à {size_px} px (compensée)</translation>
        </message>
        <message>
            <source>an odd number</source>
            <translation>un nombre impair</translation>
        </message>
        <message>
            <source>another camera is used now</source>
            <translation>une autre caméra est utilisée maintenant</translation>
        </message>
        <message>
            <source>another program has it, maybe another mcnet-avatar</source>
            <translation>un autre programme l'occupe, peut-être un autre mcnet-avatar</translation>
        </message>
        <message>
            <source>as asked</source>
            <translation>comme demandé</translation>
        </message>
        <message>
            <source>as measured</source>
            <translation>d'après la mesure</translation>
        </message>
        <message>
            <source>as usual</source>
            <translation>comme d'habitude</translation>
        </message>
        <message>
            <source>asked for {asked_hz:g} frames/s, gives {given_hz:g} (more light often helps)</source>
            <translation>demandé : {asked_hz:g} images/s, reçu : {given_hz:g} (plus de lumière aide souvent)</translation>
        </message>
        <message>
            <source>asked for {asked}, gives {given}</source>
            <translation>demandé : {asked}, reçu : {given}</translation>
        </message>
        <message>
            <source>at least two widths</source>
            <translation>au moins deux largeurs</translation>
        </message>
        <message>
            <source>at least {least}</source>
            <translation>au moins {least}</translation>
        </message>
        <message>
            <source>at most {most}</source>
            <translation>au plus {most}</translation>
        </message>
        <message>
            <source>avatar</source>
            <translation>avatar</translation>
        </message>
        <message>
            <source>backend: OpenVINO failed: {failure}</source>
            <translation>moteur : OpenVINO a échoué : {failure}</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {device} was chosen, expected an NVIDIA GPU</source>
            <translation>moteur : « cudagraph » était demandé, mais {device} a été choisi ; il faut un GPU NVIDIA</translation>
        </message>
        <message>
            <source>backend: got 'cudagraph', but {reason}; use backend auto or torch</source>
            <translation>moteur : « cudagraph » était demandé, mais {reason} ; utilisez le moteur auto ou torch</translation>
        </message>
        <message>
            <source>backend: got 'openvino', but {lack}; use backend torch (or auto), or mend that</source>
            <translation>moteur : « openvino » était demandé, mais {lack} ; utilisez le moteur torch (ou auto), ou réparez cela</translation>
        </message>
        <message>
            <source>backend: got 'torch', but {device} was chosen, where OpenVINO alone computes: use backend auto, or another device</source>
            <translation>moteur : « torch » était demandé, mais {device} a été choisi, où seul OpenVINO calcule : utilisez le moteur auto, ou un autre appareil</translation>
        </message>
        <message>
            <source>backend: got {wanted}, expected one of {allowed}</source>
            <translation>moteur : {wanted} était demandé, il faut l'un de {allowed}</translation>
        </message>
        <message>
            <source>backend: torch has to compute, but {lack}; or install OpenVINO, and use a CPU</source>
            <translation>moteur : torch doit calculer, mais {lack} ; ou installez OpenVINO et utilisez un processeur</translation>
        </message>
        <message>
            <source>background: {error}; expected own, blur, green, #rrggbb, alpha, or the file of a picture or a video</source>
            <translation>arrière-plan : {error} ; il faut own, blur, green, #rrggbb, alpha, ou le fichier d'une image ou d'une vidéo</translation>
        </message>
        <message>
            <source>because {lack}</source>
            <translation>pour la raison suivante : {lack}</translation>
        </message>
        <message>
            <source>blue</source>
            <translation>bleu</translation>
        </message>
        <message>
            <source>calibration</source>
            <translation>calibrage</translation>
        </message>
        <message>
            <source>camera</source>
            <translation>caméra</translation>
        </message>
        <message>
            <source>camera to model</source>
            <translation>caméra vers modèle</translation>
        </message>
        <message>
            <source>camera {device}</source>
            <translation>caméra {device}</translation>
        </message>
        <message>
            <source>camera {name}</source>
            <translation>caméra {name}</translation>
        </message>
        <message>
            <source>camera: got an address that begins with {scheme}://, expected http://, https:// or rtsp://</source>
            <translation>caméra : l'adresse commence par {scheme}://, il faut http://, https:// ou rtsp://</translation>
        </message>
        <message>
            <source>camera: got an address that cannot be read, expected one such as {scheme}://192.168.1.20:8080/video; in a user name or password write / as %2F, @ as %40, # as %23 and ? as %3F</source>
            <translation>caméra : l'adresse est illisible, il en faut une comme {scheme}://192.168.1.20:8080/video ; dans un nom d'utilisateur ou un mot de passe, écrivez / comme %2F, @ comme %40, # comme %23 et ? comme %3F</translation>
        </message>
        <message>
            <source>camera: got nothing, expected {expected}</source>
            <translation>caméra : rien n'a été donné, il faut {expected}</translation>
        </message>
        <message>
            <source>camera: got {asked} for size and rate, expected {least_px} to 8192 pixels per side and 1 to 240 frames/s, as @1280x720@30</source>
            <translation>caméra : {asked} a été donné pour la taille et la cadence, il faut {least_px} à 8192 pixels par côté et 1 à 240 images/s, comme @1280x720@30</translation>
        </message>
        <message>
            <source>camera: got {shown}, and there is no such file; expected {expected}</source>
            <translation>caméra : {shown} a été donné, et ce fichier n'existe pas ; il faut {expected}</translation>
        </message>
        <message>
            <source>cannot keep the list of portraits in {folder}: {error}; check the disk</source>
            <translation>impossible de conserver la liste des portraits dans {folder} : {error} ; vérifiez le disque</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames without a face, expected one at least</source>
            <translation>impossible de conserver le mouvement dans {path} : {count} images sans visage, il en faut au moins une avec</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {count} frames, expected at most {most}</source>
            <translation>impossible de conserver le mouvement dans {path} : {count} images, il en faut au plus {most}</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: got {hours:.1f} hours, expected at most {most}</source>
            <translation>impossible d'enregistrer le mouvement dans {path} : {hours:.1f} heures, au plus {most} attendues</translation>
        </message>
        <message>
            <source>cannot keep the motion in {path}: {why}</source>
            <translation>impossible de conserver le mouvement dans {path} : {why}</translation>
        </message>
        <message>
            <source>cannot keep the token of control from outside in {place}: {why}</source>
            <translation>impossible de conserver le jeton du contrôle externe dans {place} : {why}</translation>
        </message>
        <message>
            <source>cannot keep the {what} in {path}: {error}; check the folder's permissions</source>
            <translation>impossible d'enregistrer dans {path} ({what}) : {error} ; vérifiez les droits du dossier</translation>
        </message>
        <message>
            <source>cannot keep this machine's signer in {path}: {why}</source>
            <translation>impossible de conserver le signataire de cet ordinateur dans {path} : {why}</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {type} of shape {shape}, expected uint8 of shape {shapes}, with one pixel at least</source>
            <translation>impossible de faire une image pour un fichier {suffix} : reçu {type} de forme {shape}, attendu uint8 de forme {shapes}, avec au moins un pixel</translation>
        </message>
        <message>
            <source>cannot make a picture for a {suffix} file: got {width} x {height}, expected at most {most} pixels per side; make it smaller</source>
            <translation>impossible de faire une image pour un fichier {suffix} : reçu {width} x {height}, attendu au plus {most} pixels par côté ; réduisez-la</translation>
        </message>
        <message>
            <source>cannot make the folder for portraits {folder}: {error}; check the disk</source>
            <translation>impossible de créer le dossier des portraits {folder} : {error} ; vérifiez le disque</translation>
        </message>
        <message>
            <source>cannot make the folder {folder}: {cause}</source>
            <translation>impossible de créer le dossier {folder} : {cause}</translation>
        </message>
        <message>
            <source>cannot open {path} at {fps_hz} frames/s: expected more than 0</source>
            <translation>impossible d'ouvrir {path} à {fps_hz} images/s : il faut plus de 0</translation>
        </message>
        <message>
            <source>cannot put the model on {device}: {cause}; use cpu</source>
            <translation>impossible de mettre le modèle sur {device} : {cause} ; utilisez cpu</translation>
        </message>
        <message>
            <source>cannot put {name} back: {error}; add the picture again</source>
            <translation>impossible de remettre {name} : {error} ; ajoutez l'image à nouveau</translation>
        </message>
        <message>
            <source>cannot read the bundled network {path}: {cause}; reinstall the package</source>
            <translation>impossible de lire le réseau fourni {path} : {cause} ; réinstallez le paquet</translation>
        </message>
        <message>
            <source>cannot read the list of portraits {path}: {error}; check its permissions</source>
            <translation>impossible de lire la liste des portraits {path} : {error} ; vérifiez ses droits</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a camera's raw data, expected {readable}; export it as JPEG</source>
            <translation>impossible de lire l'image {path} : ce sont les données brutes d'un appareil photo, il faut {readable} ; exportez-la en JPEG</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a device, expected a file</source>
            <translation>impossible de lire l'image {path} : c'est un périphérique, il faut un fichier</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got a folder, expected a file; name one of its files</source>
            <translation>impossible de lire l'image {path} : c'est un dossier, il faut un fichier ; nommez l'un des siens</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: got {what}, expected {readable}</source>
            <translation>impossible de lire l'image {path} : trouvé : {what}, attendu : {readable}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: it is damaged, cut short or of a kind that cannot be decoded ({said}); open it in a viewer and save it as JPEG, or take another</source>
            <translation>impossible de lire l'image {path} : elle est endommagée, tronquée ou d'un type qui ne peut pas être décodé ({said}) ; ouvrez-la dans une visionneuse et enregistrez-la en JPEG, ou prenez-en une autre</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {error}</source>
            <translation>impossible de lire l'image {path} : {error}</translation>
        </message>
        <message>
            <source>cannot read the picture {path}: {said}; check its permissions</source>
            <translation>impossible de lire l'image {path} : {said} ; vérifiez ses droits</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: they are of format {version}, this app knows formats up to {known}; use a newer app, or move the file away</source>
            <translation>impossible de lire les préréglages dans {path} : ils sont au format {version}, cette application connaît les formats jusqu'à {known} ; utilisez une application plus récente, ou déplacez le fichier</translation>
        </message>
        <message>
            <source>cannot read the presets in {path}: {error}; check its permissions, or move it away</source>
            <translation>impossible de lire les préréglages dans {path} : {error} ; vérifiez ses droits, ou déplacez le fichier</translation>
        </message>
        <message>
            <source>cannot read the settings in {path}: {error}; check its permissions, or move it away</source>
            <translation>impossible de lire les réglages dans {path} : {error} ; vérifiez ses droits, ou déplacez le fichier</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got a folder, a device or a pipe, and a video is read more than once; save it as a file first</source>
            <translation>impossible de lire la vidéo {path} : c’est un dossier, un périphérique ou un tube, et une vidéo est lue plus d’une fois ; enregistrez-la d’abord dans un fichier</translation>
        </message>
        <message>
            <source>cannot read the video {path}: got an empty file; export or download it again</source>
            <translation>impossible de lire la vidéo {path} : le fichier est vide ; exportez-la ou téléchargez-la à nouveau</translation>
        </message>
        <message>
            <source>cannot read the video {path}: {said}; expected a video such as MP4, MOV or WebM</source>
            <translation>impossible de lire la vidéo {path} : {said} ; il faut une vidéo comme MP4, MOV ou WebM</translation>
        </message>
        <message>
            <source>cannot read this machine's signer {path}: {why}</source>
            <translation>impossible de lire le signataire de cet ordinateur {path} : {why}</translation>
        </message>
        <message>
            <source>cannot read {path}: got a device or a pipe, expected a file</source>
            <translation>impossible de lire {path} : c’est un périphérique ou un tube, un fichier était attendu</translation>
        </message>
        <message>
            <source>cannot read {path}: {why}; check its name</source>
            <translation>impossible de lire {path} : {why} ; vérifiez son nom</translation>
        </message>
        <message>
            <source>cannot record to {path}: got suffix {suffix}, expected .mp4 or .webm</source>
            <translation>impossible d'enregistrer dans {path} : l'extension est {suffix}, il faut .mp4 ou .webm</translation>
        </message>
        <message>
            <source>cannot record to {path}: the encoder {codec} cannot be opened for {width_px} x {height_px} ({cause}); choose another size, or install the app again</source>
            <translation>impossible d'enregistrer dans {path} : l'encodeur {codec} ne s'ouvre pas pour {width_px} x {height_px} ({cause}) ; choisissez une autre taille, ou réinstallez l'application</translation>
        </message>
        <message>
            <source>cannot record to {path}: there is no folder {parent}; make it first</source>
            <translation>impossible d'enregistrer dans {path} : il n'y a pas de dossier {parent} ; créez-le d'abord</translation>
        </message>
        <message>
            <source>cannot record to {path}: {cause}</source>
            <translation>impossible d'enregistrer dans {path} : {cause}</translation>
        </message>
        <message>
            <source>cannot remove the token {place}: {why}</source>
            <translation>impossible de retirer le jeton {place} : {why}</translation>
        </message>
        <message>
            <source>cannot remove {path}: {error}; check the folder's permissions</source>
            <translation>impossible de retirer {path} : {error} ; vérifiez les droits du dossier</translation>
        </message>
        <message>
            <source>cannot say in {place} where the app listens: {why}</source>
            <translation>impossible de noter dans {place} où l'application écoute : {why}</translation>
        </message>
        <message>
            <source>cannot use the file {path}: {cause}; check its name and its folder</source>
            <translation>impossible d'utiliser le fichier {path} : {cause} ; vérifiez son nom et son dossier</translation>
        </message>
        <message>
            <source>cannot use the file: {cause}; check its name and its folder</source>
            <translation>impossible d'utiliser le fichier : {cause} ; vérifiez son nom et son dossier</translation>
        </message>
        <message>
            <source>cannot use the folder {folder}: {cause}</source>
            <translation>impossible d’utiliser le dossier {folder} : {cause}</translation>
        </message>
        <message>
            <source>cannot use the pictures of {path}: got {name}, {width} x {height}, which cannot be converted ({error}); export it again as H.264 in MP4</source>
            <translation>impossible d'utiliser les images de {path} : {name}, {width} x {height} ne peut pas être converti ({error}) ; exportez-la à nouveau en H.264 dans un MP4</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got an animated WebP, whose pictures cannot be decoded; convert it to MP4 or GIF</source>
            <translation>impossible d’utiliser {path} comme vidéo : c’est un WebP animé, dont les images ne peuvent pas être décodées ; convertissez-le en MP4 ou en GIF</translation>
        </message>
        <message>
            <source>cannot use {path} as a video: got {what}, expected a video with pictures, such as H.264 in MP4</source>
            <translation>impossible d'utiliser {path} comme vidéo : trouvé : {what}, attendu : une vidéo avec des images, comme H.264 dans un MP4</translation>
        </message>
        <message>
            <source>cannot write a picture to {path}: got suffix {suffix}, expected {suffixes}</source>
            <translation>impossible d'écrire une image dans {path} : l'extension est {suffix}, il faut {suffixes}</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: it is a folder, expected a file name</source>
            <translation>impossible d'écrire l'image {path} : c'est un dossier, il faut un nom de fichier</translation>
        </message>
        <message>
            <source>cannot write the picture {path}: {cause}</source>
            <translation>impossible d'écrire l'image {path} : {cause}</translation>
        </message>
        <message>
            <source>choose a disk that takes larger files, or make it shorter</source>
            <translation>choisissez un disque qui accepte de plus grands fichiers, ou faites plus court</translation>
        </message>
        <message>
            <source>choose another place</source>
            <translation>choisissez un autre endroit</translation>
        </message>
        <message>
            <source>chroma green</source>
            <translation>vert chroma</translation>
        </message>
        <message>
            <source>close your mouth</source>
            <translation>fermez la bouche</translation>
        </message>
        <message>
            <source>compose</source>
            <translation>composer</translation>
        </message>
        <message>
            <source>config key {key}: got {got}, expected {expected}</source>
            <translation>clé de configuration {key} : {got} reçu, {expected} attendu</translation>
        </message>
        <message>
            <source>config key {prefix}{missing} is missing</source>
            <translation>la clé de configuration {prefix}{missing} manque</translation>
        </message>
        <message>
            <source>control from outside cannot listen on port {port}: {why}; choose another port, or 0 for any that is free</source>
            <translation>le contrôle externe ne peut pas écouter sur le port {port} : {why} ; choisissez un autre port, ou 0 pour n'importe quel port libre</translation>
        </message>
        <message>
            <source>control from outside cannot start: {why}</source>
            <translation>le contrôle externe ne peut pas démarrer : {why}</translation>
        </message>
        <message>
            <source>control from outside: got port {port}, expected 0 to 65535</source>
            <translation>contrôle externe : le port est {port}, il faut 0 à 65535</translation>
        </message>
        <message>
            <source>crop</source>
            <translation>cadrage</translation>
        </message>
        <message>
            <source>cut out</source>
            <translation>détourer</translation>
        </message>
        <message>
            <source>cutting the person out; the scene stays until then…</source>
            <translation>détourage de la personne ; d'ici là, la scène reste telle quelle…</translation>
        </message>
        <message>
            <source>delay your microphone by {delay_ms} ms</source>
            <translation>retardez votre microphone de {delay_ms} ms</translation>
        </message>
        <message>
            <source>detect</source>
            <translation>détecter</translation>
        </message>
        <message>
            <source>device: got {name}, but {lack}; use --device cpu (or auto), or mend that</source>
            <translation>appareil : {name} était demandé, mais {lack} ; utilisez --device cpu (ou auto), ou réparez cela</translation>
        </message>
        <message>
            <source>device: got {name}, expected auto, cpu, cuda, cuda:N, gpu, gpu:N or mps</source>
            <translation>appareil : {name} était demandé, il faut auto, cpu, cuda, cuda:N, gpu, gpu:N ou mps</translation>
        </message>
        <message>
            <source>done</source>
            <translation>fait</translation>
        </message>
        <message>
            <source>dropped</source>
            <translation>perdues</translation>
        </message>
        <message>
            <source>dropped {percent:.0f} %</source>
            <translation>{percent:.0f} % perdues</translation>
        </message>
        <message>
            <source>encode</source>
            <translation>encoder</translation>
        </message>
        <message>
            <source>everything is ready</source>
            <translation>tout est prêt</translation>
        </message>
        <message>
            <source>face</source>
            <translation>visage</translation>
        </message>
        <message>
            <source>face lost: returning to rest</source>
            <translation>visage perdu : retour au repos</translation>
        </message>
        <message>
            <source>face lost: the last picture stays</source>
            <translation>visage perdu : la dernière image reste</translation>
        </message>
        <message>
            <source>fine detail</source>
            <translation>détails fins</translation>
        </message>
        <message>
            <source>getting ready</source>
            <translation>préparation</translation>
        </message>
        <message>
            <source>got 32 bits per channel, expected 8 or 16; convert it to JPEG or PNG</source>
            <translation>elle a 32 bits par canal, il en faut 8 ou 16 ; convertissez-la en JPEG ou PNG</translation>
        </message>
        <message>
            <source>got Lab colours with a profile that cannot be used; convert it to JPEG or PNG</source>
            <translation>elle a des couleurs Lab avec un profil inutilisable ; convertissez-la en JPEG ou PNG</translation>
        </message>
        <message>
            <source>got PipeWire {version}, expected {oldest} or newer; update it</source>
            <translation>ceci est PipeWire {version}, il faut {oldest} ou plus récent ; mettez-le à jour</translation>
        </message>
        <message>
            <source>got a network address, and only a file of this machine can be used; download it first</source>
            <translation>c'est une adresse réseau, et seul un fichier de cet ordinateur peut être utilisé ; téléchargez-le d'abord</translation>
        </message>
        <message>
            <source>got figures of format {evaluation}, expected 'mcnet-evaluation/2'</source>
            <translation>les mesures sont au format {evaluation}, il faut « mcnet-evaluation/2 »</translation>
        </message>
        <message>
            <source>got only a private key to sign with: name the file of its certificates as well</source>
            <translation>seule une clé privée est donnée pour signer : nommez aussi le fichier de ses certificats</translation>
        </message>
        <message>
            <source>got only certificates to sign with: name the file of their private key as well</source>
            <translation>seuls des certificats sont donnés pour signer : nommez aussi le fichier de leur clé privée</translation>
        </message>
        <message>
            <source>got pictures of shape {shape}, expected (height, width, 3) of at least {least_px} pixels per side</source>
            <translation>les images ont la forme {shape}, il faut (hauteur, largeur, 3) avec au moins {least_px} pixels par côté</translation>
        </message>
        <message>
            <source>got {got}, expected a list</source>
            <translation>{got}, il faut une liste</translation>
        </message>
        <message>
            <source>ink</source>
            <translation>encre</translation>
        </message>
        <message>
            <source>install the app again</source>
            <translation>réinstallez l'application</translation>
        </message>
        <message>
            <source>int8 with OpenVINO, else {precision}</source>
            <translation>int8 avec OpenVINO, sinon {precision}</translation>
        </message>
        <message>
            <source>it cannot be signed: {why}</source>
            <translation>il ne peut pas être signé : {why}</translation>
        </message>
        <message>
            <source>it has {frames} frames, which is as many as a motion file takes</source>
            <translation>il a {frames} images, un fichier de mouvement n'en contient pas plus</translation>
        </message>
        <message>
            <source>it is the fastest on x86-64 CPUs</source>
            <translation>c'est le plus rapide sur les processeurs x86-64</translation>
        </message>
        <message>
            <source>it is what computes on Apple GPUs</source>
            <translation>c'est ce qui calcule sur les GPU Apple</translation>
        </message>
        <message>
            <source>it is what computes on Intel GPUs</source>
            <translation>c'est ce qui calcule sur les GPU Intel</translation>
        </message>
        <message>
            <source>it opens, but gives no frames</source>
            <translation>elle s'ouvre, mais ne donne pas d'images</translation>
        </message>
        <message>
            <source>it was changed, moved or removed while it was being signed</source>
            <translation>il a été modifié, déplacé ou retiré pendant la signature</translation>
        </message>
        <message>
            <source>it was ended</source>
            <translation>il a été arrêté</translation>
        </message>
        <message>
            <source>it was removed meanwhile</source>
            <translation>il a été supprimé entre-temps</translation>
        </message>
        <message>
            <source>its first {value:g} s are kept</source>
            <translation>ses {value:g} premières secondes sont conservées</translation>
        </message>
        <message>
            <source>its header is no JSON</source>
            <translation>son en-tête n'est pas du JSON</translation>
        </message>
        <message>
            <source>its linear jacobians are no {rows} rows of {columns} numbers, as {count} keypoints on the face mesh have them</source>
            <translation>ses jacobiennes linéaires ne sont pas {rows} lignes de {columns} nombres, comme les ont {count} points clés sur le maillage du visage</translation>
        </message>
        <message>
            <source>its linear jacobians have {value}, expected finite numbers</source>
            <translation>ses jacobiennes linéaires contiennent {value} ; attendu : des nombres finis</translation>
        </message>
        <message>
            <source>its process ended with {status}: out of memory, or a library crashed</source>
            <translation>son processus s'est terminé avec {status} : plus de mémoire, ou une bibliothèque a planté</translation>
        </message>
        <message>
            <source>its statement would go to {path}, where another file is: move or rename that one</source>
            <translation>sa déclaration irait dans {path}, où se trouve un autre fichier : déplacez-le ou renommez-le</translation>
        </message>
        <message>
            <source>key: got {key}, expected a letter, a digit, F1 to F24, Pause, ScrollLock, Print, Ins, Del, Home, End, PgUp, PgDown or Space, with Ctrl, Alt, Shift or Meta, such as Ctrl+Alt+0</source>
            <translation>touche : {key} ; il faut une lettre, un chiffre, F1 à F24, Pause, ScrollLock, Print, Ins, Del, Home, End, PgUp, PgDown ou Space, avec Ctrl, Alt, Shift ou Meta, par exemple Ctrl+Alt+0</translation>
        </message>
        <message>
            <source>key: {key} alone would be taken from whatever you write: choose it with Ctrl, Alt or Meta, or a key such as Pause or F9</source>
            <translation>touche : {key} seule manquerait à tout ce que vous écrivez : choisissez-la avec Ctrl, Alt ou Meta, ou une touche comme Pause ou F9</translation>
        </message>
        <message>
            <source>key: {key} is another program's already, the desktop's maybe: choose another one</source>
            <translation>touche : {key} est déjà à un autre programme, peut-être au bureau : choisissez-en une autre</translation>
        </message>
        <message>
            <source>key: {key} is another program's already: choose another one</source>
            <translation>touche : {key} est déjà à un autre programme : choisissez-en une autre</translation>
        </message>
        <message>
            <source>key: {key} is not on this keyboard: choose another one, such as Ctrl+Alt+0</source>
            <translation>touche : {key} n'est pas sur ce clavier : choisissez-en une autre, par exemple Ctrl+Alt+0</translation>
        </message>
        <message>
            <source>lids</source>
            <comment>measure</comment>
            <translation>paupières</translation>
        </message>
        <message>
            <source>light grey</source>
            <translation>gris clair</translation>
        </message>
        <message>
            <source>live</source>
            <translation>en direct</translation>
        </message>
        <message>
            <source>loading the model…</source>
            <translation>chargement du modèle…</translation>
        </message>
        <message>
            <source>look as the portrait does</source>
            <translation>prenez l'air du portrait</translation>
        </message>
        <message>
            <source>look straight into the camera</source>
            <translation>regardez droit vers la caméra</translation>
        </message>
        <message>
            <source>looking at the model…</source>
            <translation>examen du modèle…</translation>
        </message>
        <message>
            <source>macOS gives a key to one app only with the right to watch all keys: have the Shortcuts app run mcnet-avatar ctl slate by a key</source>
            <translation>macOS ne donne une touche à une application qu'avec le droit d'observer toutes les touches : faites exécuter mcnet-avatar ctl slate par une touche dans l'application Raccourcis</translation>
        </message>
        <message>
            <source>make room on the disk</source>
            <translation>faites de la place sur le disque</translation>
        </message>
        <message>
            <source>make room: what you may use of the disk is used up</source>
            <translation>faites de la place : ce que vous pouvez utiliser du disque est épuisé</translation>
        </message>
        <message>
            <source>matte</source>
            <translation>masque</translation>
        </message>
        <message>
            <source>measuring</source>
            <translation>mesure</translation>
        </message>
        <message>
            <source>measuring…</source>
            <translation>mesure…</translation>
        </message>
        <message>
            <source>model</source>
            <translation>modèle</translation>
        </message>
        <message>
            <source>model to sinks</source>
            <translation>modèle vers sorties</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the keypoints of this frame: use precision fp32 or another model; the frame is not shown</source>
            <translation>le modèle {model} a donné NaN pour les points clés de cette image : utilisez la précision fp32 ou un autre modèle ; l'image n'est pas montrée</translation>
        </message>
        <message>
            <source>model {model} gave NaN for the {what}: use precision fp32 or another model</source>
            <translation>le modèle {model} a donné NaN ({what}) : utilisez la précision fp32 ou un autre modèle</translation>
        </message>
        <message>
            <source>model {model} gave NaN or infinite values for this frame, expected colours in [0, 1]: use precision fp32 or another model; the frame is not shown</source>
            <translation>le modèle {model} a donné NaN ou des valeurs infinies pour cette image, il faut des couleurs dans [0, 1] : utilisez la précision fp32 ou un autre modèle ; l'image n'est pas montrée</translation>
        </message>
        <message>
            <source>model {name}</source>
            <translation>le modèle {name}</translation>
        </message>
        <message>
            <source>mouth</source>
            <comment>measure</comment>
            <translation>bouche</translation>
        </message>
        <message>
            <source>mps is for Apple's GPUs, and this is {system}</source>
            <translation>mps est pour les GPU Apple, et ceci est {system}</translation>
        </message>
        <message>
            <source>ms</source>
            <translation>ms</translation>
        </message>
        <message>
            <source>name of the PipeWire camera: got {name}, expected 1 to {longest} printable characters</source>
            <translation>nom de la caméra PipeWire : {name}, il faut 1 à {longest} caractères imprimables</translation>
        </message>
        <message>
            <source>needs a hand</source>
            <translation>demande une action</translation>
        </message>
        <message>
            <source>network camera {address}</source>
            <translation>caméra réseau {address}</translation>
        </message>
        <message>
            <source>neutral face, any direction</source>
            <translation>visage neutre, toute direction</translation>
        </message>
        <message>
            <source>no camera at {path}: got nothing there; {advice}</source>
            <translation>pas de caméra à {path} : il n'y a rien là ; {advice}</translation>
        </message>
        <message>
            <source>no camera picture</source>
            <translation>pas d'image de caméra</translation>
        </message>
        <message>
            <source>no camera was found: plug one in, or use a video file</source>
            <translation>aucune caméra n'a été trouvée : branchez-en une, ou utilisez un fichier vidéo</translation>
        </message>
        <message>
            <source>no camera yet: choose one under Camera</source>
            <translation>pas encore de caméra : choisissez-en une sous « Caméra »</translation>
        </message>
        <message>
            <source>no configuration is named {name}; the named ones are {named}</source>
            <translation>aucune configuration ne s'appelle {name} ; il existe {named}</translation>
        </message>
        <message>
            <source>no face in {name}: got none that looks towards the camera; take another picture, larger or from the front, or turn this one upright</source>
            <translation>pas de visage dans {name} : aucun ne regarde vers la caméra ; prenez une autre image, plus grande ou de face, ou redressez celle-ci</translation>
        </message>
        <message>
            <source>no face is shown</source>
            <translation>aucun visage n'est montré</translation>
        </message>
        <message>
            <source>no face was found in it</source>
            <translation>aucun visage n'y a été trouvé</translation>
        </message>
        <message>
            <source>no face was found in this portrait</source>
            <translation>aucun visage n'a été trouvé dans ce portrait</translation>
        </message>
        <message>
            <source>no face was seen while the motion was recorded: there is no file {path}</source>
            <translation>aucun visage n'a été vu pendant l'enregistrement du mouvement : il n'y a pas de fichier {path}</translation>
        </message>
        <message>
            <source>no face was seen, so that nothing was calibrated: look into the camera, and calibrate again</source>
            <translation>aucun visage n'a été vu, rien n'a donc été calibré : regardez la caméra et calibrez de nouveau</translation>
        </message>
        <message>
            <source>no face: the avatar rests</source>
            <translation>pas de visage : l'avatar se repose</translation>
        </message>
        <message>
            <source>no file is chosen; choose a picture or a video</source>
            <translation>aucun fichier n'est choisi ; choisissez une image ou une vidéo</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded: it is damaged or cut short; export it again</source>
            <translation>aucune image de {path} ne peut être décodée : elle est endommagée ou tronquée ; exportez-la à nouveau</translation>
        </message>
        <message>
            <source>no frame of {path} can be decoded; choose another video</source>
            <translation>aucune image de {path} ne peut être décodée ; choisissez une autre vidéo</translation>
        </message>
        <message>
            <source>no model {name_or_path}: got neither a file, a folder nor a bundled name, expected a .safetensors or .pth.tar file or a model's folder (check the path) or one of: {bundled}</source>
            <translation>pas de modèle {name_or_path} : ce n'est ni un fichier, ni un dossier, ni un nom fourni ; il faut un fichier .safetensors ou .pth.tar ou le dossier d'un modèle (vérifiez le chemin), ou l'un de : {bundled}</translation>
        </message>
        <message>
            <source>no motion file {path}: there is no such file</source>
            <translation>pas de fichier de mouvement {path} : ce fichier n'existe pas</translation>
        </message>
        <message>
            <source>no permission for {path} ({name}): run `sudo usermod -aG video $USER`, then log out and in again</source>
            <translation>pas de droit sur {path} ({name}) : lancez `sudo usermod -aG video $USER`, puis fermez et rouvrez votre session</translation>
        </message>
        <message>
            <source>no person is told apart from the background</source>
            <translation>aucune personne ne se distingue de l'arrière-plan</translation>
        </message>
        <message>
            <source>no picture at {path}: check the path</source>
            <translation>pas d'image à {path} : vérifiez le chemin</translation>
        </message>
        <message>
            <source>no picture track</source>
            <translation>aucune piste d'images</translation>
        </message>
        <message>
            <source>no portrait can be used: add another one</source>
            <translation>aucun portrait ne peut être utilisé : ajoutez-en un autre</translation>
        </message>
        <message>
            <source>no portrait yet: choose one, or add yours</source>
            <translation>pas encore de portrait : choisissez-en un, ou ajoutez le vôtre</translation>
        </message>
        <message>
            <source>no portrait {text}: got neither a file nor a known name ({names}); check the path or the name</source>
            <translation>pas de portrait {text} : ce n'est ni un fichier ni un nom connu ({names}) ; vérifiez le chemin ou le nom</translation>
        </message>
        <message>
            <source>no process could be started for it ({error})</source>
            <translation>aucun processus n'a pu être démarré pour cela ({error})</translation>
        </message>
        <message>
            <source>no video at {path}: check the path</source>
            <translation>pas de vidéo à {path} : vérifiez le chemin</translation>
        </message>
        <message>
            <source>none</source>
            <translation>aucune</translation>
        </message>
        <message>
            <source>none yet</source>
            <translation>aucun pour l'instant</translation>
        </message>
        <message>
            <source>not calibrated yet: look into the camera, or press Calibrate</source>
            <translation>pas encore calibré : regardez la caméra, ou cliquez sur « Calibrer »</translation>
        </message>
        <message>
            <source>not needed in absolute motion</source>
            <translation>inutile en mouvement absolu</translation>
        </message>
        <message>
            <source>not stated</source>
            <translation>non indiquée</translation>
        </message>
        <message>
            <source>nothing</source>
            <translation>rien</translation>
        </message>
        <message>
            <source>nothing here runs model {model}: {reasons}; is another program in the way?</source>
            <translation>rien ici n'exécute le modèle {model} : {reasons} ; un autre programme gêne-t-il ?</translation>
        </message>
        <message>
            <source>nothing is there</source>
            <translation>il n'y a rien</translation>
        </message>
        <message>
            <source>nothing of it could be kept</source>
            <translation>rien n'a pu en être conservé</translation>
        </message>
        <message>
            <source>nothing yet</source>
            <translation>rien encore</translation>
        </message>
        <message>
            <source>of unknown version</source>
            <translation>de version inconnue</translation>
        </message>
        <message>
            <source>on Debian or Ubuntu: apt-get install libpulse0</source>
            <translation>sous Debian ou Ubuntu : apt-get install libpulse0</translation>
        </message>
        <message>
            <source>only sound</source>
            <translation>du son seulement</translation>
        </message>
        <message>
            <source>only you see this</source>
            <translation>vous seul voyez ceci</translation>
        </message>
        <message>
            <source>open your eyes</source>
            <translation>ouvrez les yeux</translation>
        </message>
        <message>
            <source>open your mouth as in the portrait</source>
            <translation>ouvrez la bouche comme sur le portrait</translation>
        </message>
        <message>
            <source>openvino cannot be used: {failure}</source>
            <translation>openvino ne peut pas être utilisé : {failure}</translation>
        </message>
        <message>
            <source>output</source>
            <translation>sortie</translation>
        </message>
        <message>
            <source>part of the face is cut off</source>
            <translation>une partie du visage est coupée</translation>
        </message>
        <message>
            <source>pictures in a codec that cannot be decoded</source>
            <translation>des images dans un codec qui ne peut pas être décodé</translation>
        </message>
        <message>
            <source>pine</source>
            <translation>pin</translation>
        </message>
        <message>
            <source>places: got {given} of shape {got}, expected {pictures} of shape {shape}, finite numbers</source>
            <translation>places : {given} de forme {got} reçus, {pictures} de forme {shape} attendus, des nombres finis</translation>
        </message>
        <message>
            <source>plug it in, or choose another: {there}</source>
            <translation>branchez-la, ou choisissez-en une autre : {there}</translation>
        </message>
        <message>
            <source>plug one in; no camera is there at all</source>
            <translation>branchez-en une ; il n'y a aucune caméra</translation>
        </message>
        <message>
            <source>portrait</source>
            <translation>portrait</translation>
        </message>
        <message>
            <source>portrait angle_deg: got {angle_deg}, expected a number</source>
            <translation>portrait angle_deg : {angle_deg}, il faut un nombre</translation>
        </message>
        <message>
            <source>portrait box: got {box}, expected three numbers, the last of them above 0</source>
            <translation>portrait box : {box}, il faut trois nombres, dont le dernier est supérieur à 0</translation>
        </message>
        <message>
            <source>precision: got 'int8', but {lack}</source>
            <translation>précision : « int8 » était demandé, mais {lack}</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32 or fp16 there</source>
            <translation>précision : bf16 était demandé sur {device}, il y faut fp32 ou fp16</translation>
        </message>
        <message>
            <source>precision: got bf16 on {device}, expected fp32, fp16 or int8 there</source>
            <translation>précision : reçu bf16 sur {device}, attendu fp32, fp16 ou int8 à cet endroit</translation>
        </message>
        <message>
            <source>precision: got fp16 on the CPU, expected fp32, bf16 or int8 there (fp16 is for GPUs)</source>
            <translation>précision : reçu fp16 sur le processeur, attendu fp32, bf16 ou int8 à cet endroit (fp16 est pour les GPU)</translation>
        </message>
        <message>
            <source>precision: got {precision}, expected one of {allowed}</source>
            <translation>précision : {precision} était demandé, il faut l'un de {allowed}</translation>
        </message>
        <message>
            <source>preset: got {name} for a name, expected 1 to {most} characters</source>
            <translation>préréglage : {name} comme nom, il faut 1 à {most} caractères</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of your own: {own}</source>
            <translation>préréglage : {name}, il faut l'un des vôtres : {own}</translation>
        </message>
        <message>
            <source>preset: got {name}, expected one of {names}</source>
            <translation>préréglage : {name}, il faut l'un de {names}</translation>
        </message>
        <message>
            <source>preset: there are {count} already, expected no more: delete one first</source>
            <translation>préréglage : il y en a déjà {count}, pas plus ne sont prévus : supprimez-en d'abord un</translation>
        </message>
        <message>
            <source>preset: {name} is there already: choose another name, or delete it first</source>
            <translation>préréglage : {name} existe déjà : choisissez un autre nom, ou supprimez-le d'abord</translation>
        </message>
        <message>
            <source>preset: {name} stays as it is: choose another name</source>
            <translation>préréglage : {name} reste tel quel : choisissez un autre nom</translation>
        </message>
        <message>
            <source>presets</source>
            <translation>préréglages</translation>
        </message>
        <message>
            <source>process {name}</source>
            <translation>processus {name}</translation>
        </message>
        <message>
            <source>reading the portrait…</source>
            <translation>lecture du portrait…</translation>
        </message>
        <message>
            <source>recorded frames are the fastest on GPUs</source>
            <translation>les images enregistrées sont les plus rapides sur les GPU</translation>
        </message>
        <message>
            <source>recording {path}: got a picture of {got}, expected {shape}</source>
            <translation>enregistrement {path} : l'image est {got}, il faut {shape}</translation>
        </message>
        <message>
            <source>render</source>
            <translation>rendu</translation>
        </message>
        <message>
            <source>retouch</source>
            <translation>retouche</translation>
        </message>
        <message>
            <source>row {number}: got {got}, expected a portrait with its key</source>
            <translation>ligne {number} : {got}, il faut un portrait avec sa clé (key)</translation>
        </message>
        <message>
            <source>row {number}: there is no picture {got}</source>
            <translation>ligne {number} : il n'y a pas d'image {got}</translation>
        </message>
        <message>
            <source>row {number}: {error}</source>
            <translation>ligne {number} : {error}</translation>
        </message>
        <message>
            <source>runs on</source>
            <translation>tourne sur</translation>
        </message>
        <message>
            <source>see that its app is in front, the phone awake, and both in the same network</source>
            <translation>voyez si son application est au premier plan, le téléphone éveillé, et les deux sur le même réseau</translation>
        </message>
        <message>
            <source>see whether the disk is slow</source>
            <translation>voyez si le disque est lent</translation>
        </message>
        <message>
            <source>send</source>
            <translation>envoyer</translation>
        </message>
        <message>
            <source>setting</source>
            <translation>réglage</translation>
        </message>
        <message>
            <source>setting background_colour: got {colour}, expected #rrggbb</source>
            <translation>réglage background_colour : {colour}, il faut #rrggbb</translation>
        </message>
        <message>
            <source>setting inspector_views: got {views}, expected {least_views} to {most_views} different ones</source>
            <translation>réglage inspector_views : {views}, il en faut {least_views} à {most_views} différentes</translation>
        </message>
        <message>
            <source>setting slate_text: got {got} characters, expected at most {longest_slate_text}</source>
            <translation>réglage slate_text : {got} caractères, il en faut au plus {longest_slate_text}</translation>
        </message>
        <message>
            <source>setting slate_text: the slate cannot show {characters}; leave that out, or have a picture that shows it as slate_image</source>
            <translation>réglage slate_text : l'écran d'attente ne peut pas afficher {characters} ; retirez-le, ou indiquez en slate_image une image qui le montre</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected an even number</source>
            <translation>réglage {name} : {value}, il faut un nombre pair</translation>
        </message>
        <message>
            <source>setting {name}: got {value}, expected {low} to {high}</source>
            <translation>réglage {name} : {value}, il faut {low} à {high}</translation>
        </message>
        <message>
            <source>settings</source>
            <translation>paramètres</translation>
        </message>
        <message>
            <source>several people are in it; the largest face is used</source>
            <translation>plusieurs personnes y figurent ; le plus grand visage est utilisé</translation>
        </message>
        <message>
            <source>show your face to the camera</source>
            <translation>montrez votre visage à la caméra</translation>
        </message>
        <message>
            <source>signing needs room for a second copy: got {free_mb:.0f} MB, expected {needed_mb:.0f} MB; make room on the disk</source>
            <translation>signer demande de la place pour une deuxième copie : {free_mb:.0f} Mo sont libres, il en faut {needed_mb:.0f} Mo ; faites de la place sur le disque</translation>
        </message>
        <message>
            <source>skin, teeth and shut lids cannot be drawn for this portrait: {error}</source>
            <translation>la peau, les dents et les paupières fermées ne peuvent pas être dessinées pour ce portrait : {error}</translation>
        </message>
        <message>
            <source>slate grey</source>
            <translation>gris ardoise</translation>
        </message>
        <message>
            <source>slate until the camera is back</source>
            <translation>écran d'attente jusqu'au retour de la caméra</translation>
        </message>
        <message>
            <source>slate until your face is back</source>
            <translation>écran d'attente jusqu'au retour de votre visage</translation>
        </message>
        <message>
            <source>some of {sizes_px}, in rising order</source>
            <translation>certains de {sizes_px}, en ordre croissant</translation>
        </message>
        <message>
            <source>something else or a damaged file</source>
            <translation>autre chose ou un fichier endommagé</translation>
        </message>
        <message>
            <source>starting…</source>
            <translation>démarrage…</translation>
        </message>
        <message>
            <source>surroundings</source>
            <translation>alentours</translation>
        </message>
        <message>
            <source>the Apple GPU</source>
            <translation>le GPU Apple</translation>
        </message>
        <message>
            <source>the GPU is not used: {failure}</source>
            <translation>le GPU n'est pas utilisé : {failure}</translation>
        </message>
        <message>
            <source>the GPU that torch found</source>
            <translation>le GPU que torch a trouvé</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be made: {error}</source>
            <translation>la caméra PipeWire ne peut pas être créée : {error}</translation>
        </message>
        <message>
            <source>the PipeWire camera cannot be opened: no daemon listens at {socket} ({error}); start it with `systemctl --user start pipewire wireplumber`, or see `mcnet-avatar --doctor`</source>
            <translation>la caméra PipeWire ne peut pas être ouverte : aucun service n'écoute sur {socket} ({error}) ; démarrez-le avec `systemctl --user start pipewire wireplumber`, ou voyez `mcnet-avatar --doctor`</translation>
        </message>
        <message>
            <source>the PipeWire camera is not open; open it first</source>
            <translation>la caméra PipeWire n'est pas ouverte ; ouvrez-la d'abord</translation>
        </message>
        <message>
            <source>the PipeWire camera is open already ({detail}); close it first</source>
            <translation>la caméra PipeWire est déjà ouverte ({detail}) ; fermez-la d'abord</translation>
        </message>
        <message>
            <source>the X server does not answer for a key: {failure}</source>
            <translation>le serveur X ne répond pas à la demande de touche : {failure}</translation>
        </message>
        <message>
            <source>the X server gives the key to this app</source>
            <translation>le serveur X donne la touche à cette application</translation>
        </message>
        <message>
            <source>the X server has ended: {failure}</source>
            <translation>le serveur X s'est terminé : {failure}</translation>
        </message>
        <message>
            <source>the authors' released weights are not bundled: download their checkpoint and give its path (.pth.tar)</source>
            <translation>les poids publiés par les auteurs ne sont pas fournis : téléchargez leur checkpoint et donnez son chemin (.pth.tar)</translation>
        </message>
        <message>
            <source>the background is to be a picture, but none is chosen: choose a file, or another background</source>
            <translation>l'arrière-plan doit être une image, mais aucune n'est choisie : choisissez un fichier, ou un autre arrière-plan</translation>
        </message>
        <message>
            <source>the background picture</source>
            <translation>l'image d'arrière-plan</translation>
        </message>
        <message>
            <source>the background video cannot be used: {error}</source>
            <translation>la vidéo d'arrière-plan ne peut pas être utilisée : {error}</translation>
        </message>
        <message>
            <source>the bundle has no torch (an installation by pip has)</source>
            <translation>la version autonome ne contient pas torch (une installation par pip, oui)</translation>
        </message>
        <message>
            <source>the calibration is under way</source>
            <translation>le calibrage est en cours</translation>
        </message>
        <message>
            <source>the call sees the slate</source>
            <translation>l'appel voit l'écran d'attente</translation>
        </message>
        <message>
            <source>the camera cannot be used: choose another one</source>
            <translation>la caméra ne peut pas être utilisée : choisissez-en une autre</translation>
        </message>
        <message>
            <source>the camera gives no frames: plug it in again, or choose another one</source>
            <translation>la caméra ne donne pas d'images : rebranchez-la, ou choisissez-en une autre</translation>
        </message>
        <message>
            <source>the camera is being opened</source>
            <translation>ouverture de la caméra</translation>
        </message>
        <message>
            <source>the camera's frames have another size now</source>
            <translation>les images de la caméra ont maintenant une autre taille</translation>
        </message>
        <message>
            <source>the certificate in {path} is valid from {begin} to {end} and not now: get a new one</source>
            <translation>le certificat dans {path} est valable du {begin} au {end} et pas maintenant : procurez-vous-en un nouveau</translation>
        </message>
        <message>
            <source>the desktop did not give the key: allow it in its settings for shortcuts</source>
            <translation>le bureau n'a pas donné la touche : autorisez-la dans ses réglages de raccourcis</translation>
        </message>
        <message>
            <source>the desktop has taken the key back</source>
            <translation>le bureau a repris la touche</translation>
        </message>
        <message>
            <source>the desktop is asked for the key, and may ask you</source>
            <translation>la touche est demandée au bureau, qui peut vous interroger</translation>
        </message>
        <message>
            <source>the desktop's portal does not answer</source>
            <translation>le portail du bureau ne répond pas</translation>
        </message>
        <message>
            <source>the desktop's portal has refused the key: bind mcnet-avatar ctl slate there</source>
            <translation>le portail du bureau a refusé la touche : associez-y mcnet-avatar ctl slate</translation>
        </message>
        <message>
            <source>the engine knows those of NVIDIA, Intel and Apple</source>
            <translation>le moteur connaît ceux de NVIDIA, d'Intel et d'Apple</translation>
        </message>
        <message>
            <source>the eyes are hardly open</source>
            <translation>les yeux sont à peine ouverts</translation>
        </message>
        <message>
            <source>the face is close to the picture's border</source>
            <translation>le visage est près du bord de l'image</translation>
        </message>
        <message>
            <source>the face is dark: take a picture in more light</source>
            <translation>le visage est sombre : prenez une photo avec plus de lumière</translation>
        </message>
        <message>
            <source>the face is over-exposed: take a picture in less light</source>
            <translation>le visage est surexposé : prenez une photo avec moins de lumière</translation>
        </message>
        <message>
            <source>the face is small: use a larger picture</source>
            <translation>le visage est petit : utilisez une image plus grande</translation>
        </message>
        <message>
            <source>the figures lack {error}, or have something else in its place: expected what `mcnet-train evaluate --json` wrote</source>
            <translation>il manque {error} aux mesures, ou autre chose s'y trouve à la place : il faut ce qu'a écrit `mcnet-train evaluate --json`</translation>
        </message>
        <message>
            <source>the fine detail of this portrait cannot be shown: {error}</source>
            <translation>les détails fins de ce portrait ne peuvent pas être montrés : {error}</translation>
        </message>
        <message>
            <source>the folder {path} holds no picture: expected files such as PNG, JPEG or HEIC</source>
            <translation>le dossier {path} ne contient aucune image : il faut des fichiers comme PNG, JPEG ou HEIC</translation>
        </message>
        <message>
            <source>the head is tilted</source>
            <translation>la tête est penchée</translation>
        </message>
        <message>
            <source>the head is turned to the side</source>
            <translation>la tête est tournée sur le côté</translation>
        </message>
        <message>
            <source>the key was lost {n} times in a row ({error}): choose it again</source>
            <translation>la touche a été perdue {n} fois de suite ({error}) : choisissez-la à nouveau</translation>
        </message>
        <message>
            <source>the key was not given in the desktop's dialog: choose it again to be asked</source>
            <translation>la touche n'a pas été donnée dans la boîte de dialogue du bureau : choisissez-la à nouveau pour être interrogé</translation>
        </message>
        <message>
            <source>the microphone fails: {error}</source>
            <translation>le microphone est en panne : {error}</translation>
        </message>
        <message>
            <source>the microphone gives no sound: plug it in again, or choose another one</source>
            <translation>le microphone ne donne pas de son : rebranchez-le, ou choisissez-en un autre</translation>
        </message>
        <message>
            <source>the microphone is not there: plug it in, or choose another one</source>
            <translation>le microphone n'est pas là : branchez-le, ou choisissez-en un autre</translation>
        </message>
        <message>
            <source>the microphone {description} cannot be opened ({name}): close what else uses it, or choose another one</source>
            <translation>le microphone {description} ne peut pas être ouvert ({name}) : fermez ce qui l'utilise, ou choisissez-en un autre</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound any more: plug it in again, close what else uses it, or choose another one</source>
            <translation>le microphone {name} ne donne plus de son : rebranchez-le, fermez ce qui l'utilise, ou choisissez-en un autre</translation>
        </message>
        <message>
            <source>the microphone {name} gives no sound: plug it in again, or choose another one</source>
            <translation>le microphone {name} ne donne pas de son : rebranchez-le, ou choisissez-en un autre</translation>
        </message>
        <message>
            <source>the model</source>
            <translation>le modèle</translation>
        </message>
        <message>
            <source>the model cannot be loaded: {reason}</source>
            <translation>le modèle ne peut pas être chargé : {reason}</translation>
        </message>
        <message>
            <source>the model gives no pictures: wait, or press Start again</source>
            <translation>le modèle ne donne pas d'images : attendez, ou cliquez sur « Redémarrer »</translation>
        </message>
        <message>
            <source>the model has given no picture for {seconds:g} s: wait, or start again</source>
            <translation>le modèle n'a pas donné d'image depuis {seconds:g} s : attendez, ou redémarrez</translation>
        </message>
        <message>
            <source>the model is loading</source>
            <translation>chargement du modèle</translation>
        </message>
        <message>
            <source>the mouth is open: teeth and lips will stretch</source>
            <translation>la bouche est ouverte : les dents et les lèvres s'étireront</translation>
        </message>
        <message>
            <source>the network {path} is not the bundled one: got SHA-256 {found}..., expected {expected}...; reinstall the package</source>
            <translation>le réseau {path} n'est pas celui fourni : son SHA-256 est {found}..., il faut {expected}... ; réinstallez le paquet</translation>
        </message>
        <message>
            <source>the old file could not be moved ({error})</source>
            <translation>l'ancien fichier n'a pas pu être déplacé ({error})</translation>
        </message>
        <message>
            <source>the old file is kept as {aside}</source>
            <translation>l'ancien fichier est conservé sous {aside}</translation>
        </message>
        <message>
            <source>the output has failed: {reason}</source>
            <translation>la sortie est en panne : {reason}</translation>
        </message>
        <message>
            <source>the package c2pa-python cannot be used ({error}); install the app again, or switch Content Credentials off</source>
            <translation>le paquet c2pa-python ne peut pas être utilisé ({error}) ; réinstallez l'application, ou désactivez les attestations de contenu</translation>
        </message>
        <message>
            <source>the package cryptography cannot be used ({error}); install the app again</source>
            <translation>le paquet cryptography ne peut pas être utilisé ({error}) ; réinstallez l'application</translation>
        </message>
        <message>
            <source>the package {module} is missing in the bundle (install the app again)</source>
            <translation>le paquet {module} manque dans la version autonome (réinstallez l'application)</translation>
        </message>
        <message>
            <source>the package {module} is not installed ({command})</source>
            <translation>le paquet {module} n'est pas installé ({command})</translation>
        </message>
        <message>
            <source>the person cannot be cut out of this portrait: {error}</source>
            <translation>la personne ne peut pas être détourée dans ce portrait : {error}</translation>
        </message>
        <message>
            <source>the picture is soft</source>
            <translation>l'image est floue</translation>
        </message>
        <message>
            <source>the picture {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>l'image {path} est trop grande : {width} x {height}, il faut au plus {millions} millions de pixels ; réduisez-la</translation>
        </message>
        <message>
            <source>the picture {path} is too small: got {width} x {height}, expected at least {least_px} pixels on each side; use a larger one</source>
            <translation>l'image {path} est trop petite : {width} x {height}, il faut au moins {least_px} pixels de chaque côté ; utilisez-en une plus grande</translation>
        </message>
        <message>
            <source>the pictures of {path} differ in size: got {own_width} x {own_height} in {name}, expected {width} x {height} as in {first}</source>
            <translation>les images de {path} diffèrent en taille : {own_width} x {own_height} dans {name}, il faut {width} x {height} comme dans {first}</translation>
        </message>
        <message>
            <source>the portrait is being prepared</source>
            <translation>préparation du portrait</translation>
        </message>
        <message>
            <source>the private key {key} is not that of the first certificate in {certificates}: give the pair that belongs together, the signer's certificate first</source>
            <translation>la clé privée {key} n'est pas celle du premier certificat de {certificates} : donnez la paire qui va ensemble, le certificat du signataire en premier</translation>
        </message>
        <message>
            <source>the private key {path} has a passphrase, and nobody is there to type it: expected one without</source>
            <translation>la clé privée {path} a une phrase secrète, et personne n'est là pour la saisir : il en faut une sans</translation>
        </message>
        <message>
            <source>the private key {path} is of a kind that C2PA does not take: expected an elliptic curve (P-256, P-384 or P-521), Ed25519, or RSA of at least {bits} bits</source>
            <translation>la clé privée {path} est d'un type que C2PA n'accepte pas : il faut une courbe elliptique (P-256, P-384 ou P-521), Ed25519, ou RSA d'au moins {bits} bits</translation>
        </message>
        <message>
            <source>the process that looks inside the network has ended, perhaps for want of memory; close the view and open it again</source>
            <translation>le processus qui regarde dans le réseau s'est terminé, peut-être faute de mémoire ; fermez la vue et rouvrez-la</translation>
        </message>
        <message>
            <source>the recording is not open; open it first</source>
            <translation>l'enregistrement n'est pas ouvert ; ouvrez-le d'abord</translation>
        </message>
        <message>
            <source>the recording {detail} is going on already; stop it first</source>
            <translation>l'enregistrement {detail} est déjà en cours ; arrêtez-le d'abord</translation>
        </message>
        <message>
            <source>the recording {path} cannot go on: {cause}; {kept}</source>
            <translation>l'enregistrement {path} ne peut pas continuer : {cause} ; {kept}</translation>
        </message>
        <message>
            <source>the recording {path} failed: {reason}; {kept}</source>
            <translation>l'enregistrement {path} a échoué : {reason} ; {kept}</translation>
        </message>
        <message>
            <source>the session's message bus does not answer: {error}</source>
            <translation>le bus de messages de la session ne répond pas : {error}</translation>
        </message>
        <message>
            <source>the session's message bus has ended: {error}</source>
            <translation>le bus de messages de la session s'est terminé : {error}</translation>
        </message>
        <message>
            <source>the settings ask for detected keypoints, and this needs measured ones</source>
            <translation>les réglages demandent des points clés détectés, et il en faut ici de mesurés</translation>
        </message>
        <message>
            <source>the signed copy does not hold when it is read back ({problems}), so that it was not kept</source>
            <translation>la copie signée ne tient pas à la relecture ({problems}), elle n'a donc pas été conservée</translation>
        </message>
        <message>
            <source>the signed copy does not show the same pictures, so that it was not kept</source>
            <translation>la copie signée ne montre pas les mêmes images, elle n'a donc pas été conservée</translation>
        </message>
        <message>
            <source>the signed copy says something else, so that it was not kept</source>
            <translation>la copie signée dit autre chose, elle n'a donc pas été conservée</translation>
        </message>
        <message>
            <source>the slate's picture</source>
            <translation>l'image de l'écran d'attente</translation>
        </message>
        <message>
            <source>the system forbids the camera: allow it in System Settings, Privacy</source>
            <translation>le système interdit la caméra : autorisez-la dans les Réglages Système, Confidentialité</translation>
        </message>
        <message>
            <source>the system's privacy settings keep the microphone from this app: allow it there</source>
            <translation>les réglages de confidentialité du système refusent le microphone à cette application : autorisez-le là</translation>
        </message>
        <message>
            <source>the system's sound cannot be used: what asks for it has crashed; start it again</source>
            <translation>le son du système ne peut pas être utilisé : ce qui l'interroge a planté ; redémarrez-le</translation>
        </message>
        <message>
            <source>the system's sound did not answer within {seconds:g} s: start it again</source>
            <translation>le son du système n'a pas répondu en {seconds:g} s : redémarrez-le</translation>
        </message>
        <message>
            <source>the video {path} is too large: got {width} x {height}, expected at most {millions} million pixels; make it smaller</source>
            <translation>la vidéo {path} est trop grande : {width} x {height}, au plus {millions} millions de pixels étaient attendus ; réduisez-la</translation>
        </message>
        <message>
            <source>the view into the network is the plain network's, which is torch's, and {lack}</source>
            <translation>la vue du réseau est celle du réseau simple, qui a besoin de torch, et {lack}</translation>
        </message>
        <message>
            <source>the view into the network was closed; open it again</source>
            <translation>la vue du réseau a été fermée ; rouvrez-la</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: see the advice below its switch</source>
            <translation>la caméra virtuelle ne peut pas être ouverte : voyez le conseil sous son interrupteur</translation>
        </message>
        <message>
            <source>the virtual camera cannot be opened: {said}; close programs that may write to it, and try again</source>
            <translation>la caméra virtuelle ne peut pas être ouverte : {said} ; fermez les programmes qui peuvent y écrire, et réessayez</translation>
        </message>
        <message>
            <source>the virtual camera cannot be used: pyvirtualcam is not there ({error}); install it with `pip install pyvirtualcam`</source>
            <translation>la caméra virtuelle ne peut pas être utilisée : pyvirtualcam n'est pas là ({error}) ; installez-le avec `pip install pyvirtualcam`</translation>
        </message>
        <message>
            <source>the virtual camera is being opened</source>
            <translation>ouverture de la caméra virtuelle</translation>
        </message>
        <message>
            <source>the virtual camera is being opened again</source>
            <translation>réouverture de la caméra virtuelle</translation>
        </message>
        <message>
            <source>the virtual camera is not open; open it first</source>
            <translation>la caméra virtuelle n'est pas ouverte ; ouvrez-la d'abord</translation>
        </message>
        <message>
            <source>the virtual camera is off: switch it on for a call</source>
            <translation>la caméra virtuelle est désactivée : activez-la pour un appel</translation>
        </message>
        <message>
            <source>the virtual camera is open already ({detail}); close it first</source>
            <translation>la caméra virtuelle est déjà ouverte ({detail}) ; fermez-la d'abord</translation>
        </message>
        <message>
            <source>the virtual camera takes no pictures any more: switch it on again</source>
            <translation>la caméra virtuelle ne prend plus d'images : réactivez-la</translation>
        </message>
        <message>
            <source>the virtual camera {detail} could not be closed: {error}</source>
            <translation>la caméra virtuelle {detail} n'a pas pu être fermée : {error}</translation>
        </message>
        <message>
            <source>the virtual camera {detail} takes no pictures any more: {error}; open it again</source>
            <translation>la caméra virtuelle {detail} ne prend plus d'images : {error} ; rouvrez-la</translation>
        </message>
        <message>
            <source>the {stage} has failed: {reason}</source>
            <translation>une partie de l'application ({stage}) est en panne : {reason}</translation>
        </message>
        <message>
            <source>there is no GPU {index}: torch finds {device_count}</source>
            <translation>il n'y a pas de GPU {index} : torch en trouve {device_count}</translation>
        </message>
        <message>
            <source>there is no Intel GPU {index}: OpenVINO finds {n}</source>
            <translation>il n'y a pas de GPU Intel {index} : OpenVINO en trouve {n}</translation>
        </message>
        <message>
            <source>there is no desktop to hear a key on</source>
            <translation>il n'y a pas de bureau où entendre une touche</translation>
        </message>
        <message>
            <source>there is no file {path}; check the path</source>
            <translation>il n'y a pas de fichier {path} ; vérifiez le chemin</translation>
        </message>
        <message>
            <source>there is no microphone: plug one in, or allow it in the system's settings for sound</source>
            <translation>il n'y a pas de microphone : branchez-en un, ou autorisez-le dans les réglages de son du système</translation>
        </message>
        <message>
            <source>this Wayland session has no message bus to ask its desktop by: bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>cette session Wayland n'a pas de bus de messages pour interroger son bureau : associez une touche à mcnet-avatar ctl slate dans les réglages du bureau</translation>
        </message>
        <message>
            <source>this computer is being measured</source>
            <translation>mesure de cet ordinateur en cours</translation>
        </message>
        <message>
            <source>this desktop's portal gives no keys to apps ({error}): bind mcnet-avatar ctl slate to a key in the desktop's own settings</source>
            <translation>le portail de ce bureau ne donne pas de touches aux applications ({error}) : associez une touche à mcnet-avatar ctl slate dans les réglages du bureau</translation>
        </message>
        <message>
            <source>this machine shows no GPU that a program may compute with (there is no /dev/dri/renderD*)</source>
            <translation>cet ordinateur ne montre aucun GPU avec lequel un programme puisse calculer (il n'y a pas de /dev/dri/renderD*)</translation>
        </message>
        <message>
            <source>this model's keypoints are not known points of a face</source>
            <translation>les points clés de ce modèle ne sont pas des points connus d'un visage</translation>
        </message>
        <message>
            <source>this user has no home folder: set HOME to a folder where the program may keep its files</source>
            <translation>cet utilisateur n’a pas de dossier personnel : donnez à HOME un dossier où le programme peut garder ses fichiers</translation>
        </message>
        <message>
            <source>threads: got {threads}, expected at least 1, or None for all cores</source>
            <translation>threads : {threads} demandés, il en faut au moins 1, ou None pour tous les cœurs</translation>
        </message>
        <message>
            <source>to do</source>
            <translation>à faire</translation>
        </message>
        <message>
            <source>torch is not installed</source>
            <translation>torch n'est pas installé</translation>
        </message>
        <message>
            <source>torch lacks something on the Apple GPU that the network needs ({error}): use device cpu, or a newer torch</source>
            <translation>il manque à torch sur le GPU Apple quelque chose dont le réseau a besoin ({error}) : utilisez l'appareil cpu, ou un torch plus récent</translation>
        </message>
        <message>
            <source>torch {version} (for CUDA {cuda}) finds no usable NVIDIA GPU or driver</source>
            <translation>torch {version} (pour CUDA {cuda}) ne trouve ni GPU NVIDIA utilisable ni pilote</translation>
        </message>
        <message>
            <source>torch {version} finds no Apple GPU that it can use</source>
            <translation>torch {version} ne trouve pas de GPU Apple qu'il puisse utiliser</translation>
        </message>
        <message>
            <source>torch {version} has no NVIDIA driver to compute with</source>
            <translation>torch {version} n'a pas de pilote NVIDIA pour calculer</translation>
        </message>
        <message>
            <source>torch {version} is a build without Apple's Metal</source>
            <translation>torch {version} est une version sans Metal d'Apple</translation>
        </message>
        <message>
            <source>torch {version} is a build without CUDA</source>
            <translation>torch {version} est une version sans CUDA</translation>
        </message>
        <message>
            <source>trying {way}</source>
            <translation>essai de {way}</translation>
        </message>
        <message>
            <source>turn your head as in the portrait</source>
            <translation>tournez la tête comme sur le portrait</translation>
        </message>
        <message>
            <source>unknown config key {prefix}{unknown}; the known ones are {known}</source>
            <translation>clé de configuration inconnue {prefix}{unknown} ; les clés connues sont {known}</translation>
        </message>
        <message>
            <source>unknown key {key}</source>
            <translation>clé inconnue {key}</translation>
        </message>
        <message>
            <source>unknown {what} {key}</source>
            <translation>inconnu : {what} {key}</translation>
        </message>
        <message>
            <source>unknown {what} {prefix}{unknown}; the known ones are {kinds}</source>
            <translation>inconnu : {what} {prefix}{unknown} ; sont connus {kinds}</translation>
        </message>
        <message>
            <source>unplug it and plug it in again, close other programs that use it</source>
            <translation>débranchez-la et rebranchez-la, fermez les autres programmes qui l'utilisent</translation>
        </message>
        <message>
            <source>v4l2loopback is loaded, but has no device.</source>
            <translation>v4l2loopback est chargé, mais n'a pas de périphérique.</translation>
        </message>
        <message>
            <source>version: got {version}, expected {known}</source>
            <translation>version : {version}, il faut {known}</translation>
        </message>
        <message>
            <source>virtual camera</source>
            <translation>caméra virtuelle</translation>
        </message>
        <message>
            <source>virtual camera {detail}: got a picture of {shape}, expected {expected}</source>
            <translation>caméra virtuelle {detail} : l'image est {shape}, il faut {expected}</translation>
        </message>
        <message>
            <source>virtual camera: got backend {backend}, expected one of {backends}</source>
            <translation>caméra virtuelle : le moteur est {backend}, il faut l'un de {backends}</translation>
        </message>
        <message>
            <source>waiting for the weights of the model in use…</source>
            <translation>attente des poids du modèle utilisé…</translation>
        </message>
        <message>
            <source>warped L1 of copying</source>
            <translation>L1 du déformé par rapport à la copie</translation>
        </message>
        <message>
            <source>warped L1 of copying, of what it learns from</source>
            <translation>L1 du déformé par rapport à la copie, sur ses données d'entraînement</translation>
        </message>
        <message>
            <source>what is around this portrait cannot be shown: {error}</source>
            <translation>ce qui entoure ce portrait ne peut pas être montré : {error}</translation>
        </message>
        <message>
            <source>what speaks to PipeWire has crashed</source>
            <translation>ce qui parle à PipeWire a planté</translation>
        </message>
        <message>
            <source>what {path} says of itself cannot be read: {why}</source>
            <translation>ce que {path} dit de lui-même ne peut pas être lu : {why}</translation>
        </message>
        <message>
            <source>widths of at least {least}</source>
            <translation>des largeurs d'au moins {least}</translation>
        </message>
        <message>
            <source>wood</source>
            <translation>bois</translation>
        </message>
        <message>
            <source>working…</source>
            <translation>en cours…</translation>
        </message>
        <message>
            <source>{busy_ms:.0f} ms each</source>
            <translation>{busy_ms:.0f} ms chacune</translation>
        </message>
        <message>
            <source>{camera} gives a picture of one colour: open its shutter, or switch it on with its key</source>
            <translation>{camera} donne une image d'une seule couleur : ouvrez son cache, ou activez-la avec sa touche</translation>
        </message>
        <message>
            <source>{camera} goes on.</source>
            <translation>{camera} continue.</translation>
        </message>
        <message>
            <source>{changed} changed</source>
            <translation>{changed} modifiés</translation>
        </message>
        <message>
            <source>{counts} counts, one for each UpBlock</source>
            <translation>{counts} nombres, un par UpBlock</translation>
        </message>
        <message>
            <source>{delay_ms:.0f} ms</source>
            <translation>{delay_ms:.0f} ms</translation>
        </message>
        <message>
            <source>{device} ({name}), {why}, in {precision}</source>
            <translation>{device} ({name}), {why} ; en {precision}</translation>
        </message>
        <message>
            <source>{device} in {precision} with {backend}</source>
            <translation>{device} en {precision} avec {backend}</translation>
        </message>
        <message>
            <source>{done} of {steps}</source>
            <translation>{done} sur {steps}</translation>
        </message>
        <message>
            <source>{error}. Presets of this run are not kept</source>
            <translation>{error}. Les préréglages de cette session ne sont pas conservés</translation>
        </message>
        <message>
            <source>{error}; it is asked again in {pause_s:g} s</source>
            <translation>{error} ; nouvelle demande dans {pause_s:g} s</translation>
        </message>
        <message>
            <source>{error}; until it can be had again, it is asked for from time to time</source>
            <translation>{error} ; nouvelle demande de temps en temps, jusqu'à ce que ce soit possible</translation>
        </message>
        <message>
            <source>{file} was not finished within {seconds:g} s: leave its disk connected, and see later if it plays</source>
            <translation>{file} n'a pas été terminé en {seconds:g} s : laissez son disque connecté, et voyez plus tard s'il se lit</translation>
        </message>
        <message>
            <source>{first} and {then}</source>
            <translation>{first} et {then}</translation>
        </message>
        <message>
            <source>{first} or {then}</source>
            <translation>{first} ou {then}</translation>
        </message>
        <message>
            <source>{first}, {then}</source>
            <translation>{first}, {then}</translation>
        </message>
        <message>
            <source>{first}. {then}</source>
            <translation>{first}. {then}</translation>
        </message>
        <message>
            <source>{first}; {then}</source>
            <translation>{first} ; {then}</translation>
        </message>
        <message>
            <source>{folder} holds no model: got neither {model_file} nor {latest_file}, expected a folder that `mcnet-train export` wrote, or that of a run that has saved what it learned</source>
            <translation>{folder} ne contient pas de modèle : ni {model_file} ni {latest_file} n'y est ; il faut un dossier écrit par `mcnet-train export`, ou celui d'un entraînement qui a enregistré ce qu'il a appris</translation>
        </message>
        <message>
            <source>{found}, while the machine was busy with something else</source>
            <translation>{found}, pendant que l'ordinateur était occupé à autre chose</translation>
        </message>
        <message>
            <source>{fps:.0f} fps</source>
            <translation>{fps:.0f} images/s</translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} frames</source>
            <translation>
                <numerusform>{fps:5.1f} images/s   {n} image</numerusform>
                <numerusform>{fps:5.1f} images/s   {n} images</numerusform>
            </translation>
        </message>
        <message numerus="yes">
            <source>{fps:5.1f} fps   {n} pictures</source>
            <translation>
                <numerusform>{fps:5.1f} images/s   {n} image</numerusform>
                <numerusform>{fps:5.1f} images/s   {n} images</numerusform>
            </translation>
        </message>
        <message>
            <source>{frame_ms:.3g} ms on {way}</source>
            <translation>{frame_ms:.3g} ms sur {way}</translation>
        </message>
        <message>
            <source>{kept}; {error}</source>
            <translation>{kept} ; {error}</translation>
        </message>
        <message>
            <source>{key} shows the slate, whichever window has the focus.</source>
            <translation>{key} montre l'écran d'attente, quelle que soit la fenêtre qui a le focus.</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected no such key</source>
            <translation>{key} : {got}, cette clé ne devrait pas y être</translation>
        </message>
        <message>
            <source>{key}: got {got}, expected {expected}</source>
            <translation>{key} : {got}, il faut {expected}</translation>
        </message>
        <message>
            <source>{lack}; in a clone, `make setup` installs every package</source>
            <translation>{lack} ; dans un clone, `make setup` installe tous les paquets</translation>
        </message>
        <message>
            <source>{lack}; or switch Content Credentials off</source>
            <translation>{lack} ; ou désactivez les attestations de contenu</translation>
        </message>
        <message>
            <source>{lack}; use device cpu, or another precision</source>
            <translation>{lack} ; utilisez l'appareil cpu, ou une autre précision</translation>
        </message>
        <message>
            <source>{levels} widths, as the encoder</source>
            <translation>{levels} largeurs, comme l'encodeur</translation>
        </message>
        <message>
            <source>{licences} and {more} more</source>
            <translation>{licences} et {more} autres</translation>
        </message>
        <message>
            <source>{licences}; not stated for some</source>
            <translation>{licences} ; non précisé pour certaines</translation>
        </message>
        <message>
            <source>{measure} {share:.0%}</source>
            <translation>{measure} {share:.0%}</translation>
        </message>
        <message>
            <source>{measure} {value:.2f}</source>
            <translation>{measure} {value:.2f}</translation>
        </message>
        <message>
            <source>{model} animates the portrait now.</source>
            <translation>{model} anime maintenant le portrait.</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} goes on.</source>
            <translation>{model} ne peut pas être utilisé : {reason}. {other} continue.</translation>
        </message>
        <message>
            <source>{model} cannot be used: {reason}. {other} is back.</source>
            <translation>{model} ne peut pas être utilisé : {reason}. {other} est de retour.</translation>
        </message>
        <message>
            <source>{names}; did you mean {nearest}?</source>
            <translation>{names} ; vouliez-vous dire {nearest} ?</translation>
        </message>
        <message>
            <source>{name} (key {key})</source>
            <translation>{name} (touche {key})</translation>
        </message>
        <message>
            <source>{name} (process {pid})</source>
            <translation>{name} (processus {pid})</translation>
        </message>
        <message>
            <source>{name} (sm_{major}{minor}) is older than what this torch was built for (sm_{known})</source>
            <translation>{name} (sm_{major}{minor}) est plus ancien que ce que ce torch prend en charge (sm_{known})</translation>
        </message>
        <message>
            <source>{name} came with the app and keeps its name: only your own portraits can be renamed</source>
            <translation>{name} est fourni avec l'application et garde son nom : seuls vos propres portraits peuvent être renommés</translation>
        </message>
        <message>
            <source>{name} came with the app and stays: only your own portraits can be removed</source>
            <translation>{name} est fourni avec l'application et reste : seuls vos propres portraits peuvent être retirés</translation>
        </message>
        <message>
            <source>{name} cannot be found: no host of that name is known; check the address, or use the number that the app shows</source>
            <translation>{name} est introuvable : aucun hôte de ce nom n'est connu ; vérifiez l'adresse, ou utilisez le numéro qu'affiche l'application</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program</source>
            <translation>impossible d’ouvrir {name} : un autre programme l’utilise, ou ce n’est pas autorisé ; fermez ce programme</translation>
        </message>
        <message>
            <source>{name} cannot be opened: it is in use by another program, or not permitted; close that program; allow it under {place}</source>
            <translation>impossible d’ouvrir {name} : un autre programme l’utilise, ou ce n’est pas autorisé ; fermez ce programme ; autorisez-le sous {place}</translation>
        </message>
        <message>
            <source>{name} cannot be opened: {reason}</source>
            <translation>{name} ne peut pas être ouvert : {reason}</translation>
        </message>
        <message>
            <source>{name} cannot be reached ({cause}): see that its app runs, that both are in the same network, and that the address and its port are right</source>
            <translation>{name} est injoignable ({cause}) : voyez si son application tourne, si les deux sont sur le même réseau, et si l'adresse et son port sont justes</translation>
        </message>
        <message>
            <source>{name} cannot be used: {problem}; close programs that may use it, or plug it in again</source>
            <translation>{name} ne peut pas être utilisée : {problem} ; fermez les programmes qui peuvent l'utiliser, ou rebranchez-la</translation>
        </message>
        <message>
            <source>{name} changed its picture from {width_px} x {height_px} to {width} x {height}: it is opened anew</source>
            <translation>{name} a changé son image de {width_px} x {height_px} en {width} x {height} : elle est rouverte</translation>
        </message>
        <message>
            <source>{name} changed its picture: got {shape}, expected {value}; open it again</source>
            <translation>{name} a changé son image : {shape}, il faut {value} ; rouvrez-la</translation>
        </message>
        <message>
            <source>{name} could not be closed: {reason}</source>
            <translation>{name} n'a pas pu être fermé : {reason}</translation>
        </message>
        <message>
            <source>{name} could not be finished: {reason}</source>
            <translation>{name} n'a pas pu être terminé : {reason}</translation>
        </message>
        <message>
            <source>{name} does not answer: got nothing within {seconds:g} s; see that its app runs, and that both are in the same network</source>
            <translation>{name} ne répond pas : rien n'est venu en {seconds:g} s ; voyez si son application tourne, et si les deux sont sur le même réseau</translation>
        </message>
        <message>
            <source>{name} does not answer: {users} attempts to read it hang in its driver; {remedy}, or choose another camera</source>
            <translation>{name} ne répond pas : {users} lectures sont bloquées dans son pilote ; {remedy}, ou choisissez une autre caméra</translation>
        </message>
        <message>
            <source>{name} does not tell the ranges of its activations: write a file that does (`mcnet convert --int8`)</source>
            <translation>{name} n'indique pas les plages de ses activations : écrivez un fichier qui le fait (`mcnet convert --int8`)</translation>
        </message>
        <message>
            <source>{name} ended without a frame</source>
            <translation>{name} s'est terminée sans une image</translation>
        </message>
        <message>
            <source>{name} failed: {error}</source>
            <translation>{name} a échoué : {error}</translation>
        </message>
        <message>
            <source>{name} failed: {reason}</source>
            <translation>{name} a échoué : {reason}</translation>
        </message>
        <message>
            <source>{name} gave no frame within {seconds:g} s: {remedy}, or choose another camera</source>
            <translation>{name} n'a pas donné d'image en {seconds:g} s : {remedy}, ou choisissez une autre caméra</translation>
        </message>
        <message>
            <source>{name} gives no frames any more: unplugged, or taken by another program; plug it in again or close the other program</source>
            <translation>{name} ne donne plus d'images : débranchée, ou prise par un autre programme ; rebranchez-la ou fermez l'autre programme</translation>
        </message>
        <message>
            <source>{name} gives no video ({cause}): look in its app for the video's address</source>
            <translation>{name} ne donne pas de vidéo ({cause}) : cherchez l'adresse de la vidéo dans son application</translation>
        </message>
        <message>
            <source>{name} gives no video: got a page or a file; use the address of the video itself, such as {scheme}://{address}{path}</source>
            <translation>{name} ne donne pas de vidéo, mais une page ou un fichier ; utilisez l'adresse de la vidéo elle-même, comme {scheme}://{address}{path}</translation>
        </message>
        <message>
            <source>{name} gives no video: got a stream without pictures; look in its app for the video's address</source>
            <translation>{name} ne donne pas de vidéo, mais un flux sans images ; cherchez l'adresse de la vidéo dans son application</translation>
        </message>
        <message>
            <source>{name} gives pictures of {width} x {height}, expected at least {least_px} pixels per side: choose a larger size in its app</source>
            <translation>{name} donne des images de {width} x {height}, il faut au moins {least_px} pixels par côté : choisissez une plus grande taille dans son application</translation>
        </message>
        <message>
            <source>{name} has closed the connection: see that its app still runs</source>
            <translation>{name} a fermé la connexion : voyez si son application tourne encore</translation>
        </message>
        <message>
            <source>{name} has ended; plug it in again, or choose another camera</source>
            <translation>{name} s'est terminée ; rebranchez-la, ou choisissez une autre caméra</translation>
        </message>
        <message>
            <source>{name} has given no frame for {seconds:g} s; it is opened anew. If that does not help, {remedy}, or choose another camera</source>
            <translation>{name} n'a pas donné d'image depuis {seconds:g} s ; elle est rouverte. Si cela n'aide pas : {remedy}, ou choisissez une autre caméra</translation>
        </message>
        <message>
            <source>{name} has given no picture for {seconds:g} s: see that its app is in front, the phone awake, and both in the same network</source>
            <translation>{name} n'a pas donné d'image depuis {seconds:g} s : voyez si son application est au premier plan, le téléphone éveillé, et les deux sur le même réseau</translation>
        </message>
        <message>
            <source>{name} has given the very same picture for {seconds:g} s: it is frozen and is opened anew. If that does not help, plug it in again</source>
            <translation>{name} donne exactement la même image depuis {seconds:g} s : elle est figée et est rouverte. Si cela n'aide pas, rebranchez-la</translation>
        </message>
        <message>
            <source>{name} has no video there ({cause}): look in its app for the video's address</source>
            <translation>{name} n'a pas de vidéo à cet endroit ({cause}) : cherchez l'adresse de la vidéo dans son application</translation>
        </message>
        <message>
            <source>{name} is a motion file, expected what gives pictures</source>
            <translation>{name} est un fichier de mouvement, il faut quelque chose qui donne des images</translation>
        </message>
        <message>
            <source>{name} is a recording, expected a live camera: download it, and give the file</source>
            <translation>{name} est un enregistrement, il faut une caméra en direct : téléchargez-le, et donnez le fichier</translation>
        </message>
        <message>
            <source>{name} is in use by {users}; close that program</source>
            <translation>{name} est utilisée par {users} ; fermez ce programme</translation>
        </message>
        <message>
            <source>{name} is saved, but without Content Credentials: {why}.</source>
            <translation>{name} est enregistré, mais sans attestations de contenu : {why}.</translation>
        </message>
        <message>
            <source>{name} is there, but is not used: {lack}</source>
            <translation>{name} est là, mais n'est pas utilisé : {lack}</translation>
        </message>
        <message>
            <source>{name} wants another user name or password: give them in the address, as in http://USER:PASSWORD@HOST/video</source>
            <translation>{name} demande un autre nom d'utilisateur ou mot de passe : donnez-les dans l'adresse, comme dans http://USER:PASSWORD@HOST/video</translation>
        </message>
        <message>
            <source>{name} was closed; open it again to read on</source>
            <translation>{name} a été fermée ; rouvrez-la pour continuer à lire</translation>
        </message>
        <message>
            <source>{name} was taken out of the gallery.</source>
            <translation>{name} a été retiré de la galerie.</translation>
        </message>
        <message>
            <source>{name}, a camera of another kind</source>
            <translation>{name}, une caméra d'un autre genre</translation>
        </message>
        <message>
            <source>{name}, score {score} of 100</source>
            <translation>{name}, note {score} sur 100</translation>
        </message>
        <message>
            <source>{name}, {cores} cores, {threads} threads</source>
            <translation>{name}, {cores} cœurs, {threads} threads</translation>
        </message>
        <message>
            <source>{name}: got no frame any more, expected a video; was the file changed?</source>
            <translation>{name} : plus aucune image n'est venue, il faut une vidéo ; le fichier a-t-il changé ?</translation>
        </message>
        <message>
            <source>{name}: there is no such camera; {advice}</source>
            <translation>{name} : cette caméra n'existe pas ; {advice}</translation>
        </message>
        <message>
            <source>{name}: {complaint}</source>
            <translation>{name} : {complaint}</translation>
        </message>
        <message>
            <source>{name}: {text}</source>
            <translation>{name} : {text}</translation>
        </message>
        <message>
            <source>{number} from {hop}</source>
            <translation>{number} de {hop}</translation>
        </message>
        <message>
            <source>{number} more</source>
            <translation>{number} de plus</translation>
        </message>
        <message>
            <source>{number}%</source>
            <comment>percent</comment>
            <translation>{number} %</translation>
        </message>
        <message>
            <source>{p50:.0f} ms in app (p95 {p95:.0f})</source>
            <translation>{p50:.0f} ms dans l'application (p95 {p95:.0f})</translation>
        </message>
        <message>
            <source>{path} ({name}) is a virtual camera that no program feeds, expected a webcam; choose another</source>
            <translation>{path} ({name}) est une caméra virtuelle qu'aucun programme n'alimente, il faut une webcam ; choisissez-en une autre</translation>
        </message>
        <message>
            <source>{path} ({name}) is not a capture device, expected a webcam; choose another</source>
            <translation>{path} ({name}) n'est pas un périphérique de capture, il faut une webcam ; choisissez-en une autre</translation>
        </message>
        <message>
            <source>{path} cannot be read ({error}); check the path</source>
            <translation>{path} ne peut pas être lu ({error}) ; vérifiez le chemin</translation>
        </message>
        <message>
            <source>{path} cannot be read as a checkpoint: it is something else, or truncated or damaged; get it again</source>
            <translation>{path} ne peut pas être lu comme checkpoint : c'est autre chose, ou il est tronqué ou endommagé ; récupérez-le à nouveau</translation>
        </message>
        <message>
            <source>{path} cannot be read as a motion file: {error}; copy or record it again</source>
            <translation>{path} ne peut pas être lu comme fichier de mouvement : {error} ; copiez-le ou enregistrez-le à nouveau</translation>
        </message>
        <message>
            <source>{path} cannot be read: {cause}</source>
            <translation>{path} ne peut pas être lu : {cause}</translation>
        </message>
        <message>
            <source>{path} has a header that cannot be used: {error}; a newer version may have written it</source>
            <translation>{path} a un en-tête inutilisable : {error} ; une version plus récente a pu l'écrire</translation>
        </message>
        <message>
            <source>{path} has {count} frames, expected at most {most}</source>
            <translation>{path} a {count} images, il en faut au plus {most}</translation>
        </message>
        <message>
            <source>{path} holds no certificates ({error}); expected PEM, the signer's first</source>
            <translation>{path} ne contient pas de certificats ({error}) ; il faut du PEM, celui du signataire en premier</translation>
        </message>
        <message>
            <source>{path} holds no private key ({error}); expected PEM</source>
            <translation>{path} ne contient pas de clé privée ({error}) ; il faut du PEM</translation>
        </message>
        <message>
            <source>{path} is a damaged motion file: {error}; copy or record it again</source>
            <translation>{path} est un fichier de mouvement endommagé : {error} ; copiez-le ou enregistrez-le à nouveau</translation>
        </message>
        <message>
            <source>{path} is a file of torch's, and {lack}: convert it once where torch is (`mcnet convert {name} model.safetensors --int8`), and use that</source>
            <translation>{path} est un fichier de torch, et {lack} : convertissez-le une fois là où torch est installé (`mcnet convert {name} model.safetensors --int8`), et utilisez le résultat</translation>
        </message>
        <message>
            <source>{path} is a folder, a device or a pipe, and only a file can be used; choose another</source>
            <translation>{path} est un dossier, un périphérique ou un tube, et seul un fichier peut être utilisé ; choisissez-en un autre</translation>
        </message>
        <message>
            <source>{path} is a motion file of version {version}, this program knows versions up to {known}; use a newer one</source>
            <translation>{path} est un fichier de mouvement de version {version}, ce programme connaît les versions jusqu'à {known} ; utilisez-en un plus récent</translation>
        </message>
        <message>
            <source>{path} is cut short: got {size} bytes, expected {end}; get it again</source>
            <translation>{path} est tronqué : {size} octets, il en faut {end} ; récupérez-le à nouveau</translation>
        </message>
        <message>
            <source>{path} is damaged: its tensors hash to {got}, its header says {content_hash}; get it again</source>
            <translation>{path} est endommagé : l'empreinte de ses tenseurs est {got}, son en-tête dit {content_hash} ; récupérez-le à nouveau</translation>
        </message>
        <message>
            <source>{path} is larger than {most} MB, expected a motion file; take a shorter one</source>
            <translation>{path} dépasse {most} Mo, il faut un fichier de mouvement ; prenez-en un plus court</translation>
        </message>
        <message>
            <source>{path} is no MCNet checkpoint: got {found}, expected dicts named {parts}</source>
            <translation>{path} n'est pas un checkpoint MCNet : trouvé : {found}, attendu : des dicts nommés {parts}</translation>
        </message>
        <message>
            <source>{path} is no motion file: expected one that --save-motion or the app recorded</source>
            <translation>{path} n'est pas un fichier de mouvement : il en faut un que --save-motion ou l'application a enregistré</translation>
        </message>
        <message>
            <source>{path} is no safetensors file that can be read ({said}): get it again</source>
            <translation>{path} n'est pas un fichier safetensors lisible ({said}) : récupérez-le à nouveau</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header is no table</source>
            <translation>{path} n'est pas un fichier safetensors : son en-tête n'est pas une table</translation>
        </message>
        <message>
            <source>{path} is no safetensors file: its header lists no tensors</source>
            <translation>{path} n'est pas un fichier safetensors : son en-tête ne liste aucun tenseur</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file ({error}): it may be truncated; get it again</source>
            <translation>{path} n’est pas un fichier safetensors entier ({error}) : il est peut-être tronqué ; obtenez-le de nouveau</translation>
        </message>
        <message>
            <source>{path} is no whole safetensors file: it may be truncated, or something else</source>
            <translation>{path} n'est pas un fichier safetensors complet : il est peut-être tronqué, ou c'est autre chose</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {found} in its header, expected {format}</source>
            <translation>{path} n'est pas un de nos modèles : le format dans son en-tête est {found}, il faut {format}</translation>
        </message>
        <message>
            <source>{path} is not a model of ours: got format {got} in its header, expected {format}</source>
            <translation>{path} n'est pas un de nos modèles : le format dans son en-tête est {got}, il faut {format}</translation>
        </message>
        <message>
            <source>{path} is refused: besides tensors it holds something that could run code when it is read ({wanted}); do not trust where it came from, or have it saved again with tensors only</source>
            <translation>{path} est refusé : outre des tenseurs, il contient quelque chose qui pourrait exécuter du code à la lecture ({wanted}) ; ne vous fiez pas à sa provenance, ou faites-le réenregistrer avec des tenseurs seulement</translation>
        </message>
        <message>
            <source>{path} was changed, and not all of it can be used: {said}. In place of that stays what this window has; {kept}.</source>
            <translation>{path} a été modifié, et tout n'y est pas utilisable : {said}. À la place reste ce qu'a cette fenêtre ; {kept}.</translation>
        </message>
        <message>
            <source>{path}: got suffix {suffix}, expected {kinds}</source>
            <translation>{path} : l'extension est {suffix}, il faut {kinds}</translation>
        </message>
        <message>
            <source>{path}: {key} is a tensor of {kind}, expected F32 or F16 as we write them: have the model saved again as one of these</source>
            <translation>{path} : {key} est un tenseur de {kind}, F32 ou F16 attendu, comme nous les écrivons : faites enregistrer le modèle de nouveau dans l’un d’eux</translation>
        </message>
        <message>
            <source>{path}: {part}.{key} is a {kind}, expected a name and a tensor</source>
            <translation>{path} : {part}.{key} est un {kind}, il faut un nom et un tenseur</translation>
        </message>
        <message>
            <source>{percent:.0f} %</source>
            <translation>{percent:.0f} %</translation>
        </message>
        <message>
            <source>{place} is a link, which the token of control from outside cannot be: remove it</source>
            <translation>{place} est un lien, ce que le jeton du contrôle externe ne peut pas être : retirez-le</translation>
        </message>
        <message>
            <source>{precision} (measured to be the fastest here)</source>
            <translation>{precision} (mesuré le plus rapide ici)</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies best)</source>
            <translation>{precision} (ce qu'il multiplie le mieux)</translation>
        </message>
        <message>
            <source>{precision} (which it multiplies natively)</source>
            <translation>{precision} (ce qu'il multiplie nativement)</translation>
        </message>
        <message>
            <source>{problems}; and {number} more</source>
            <translation>{problems} ; et {number} de plus</translation>
        </message>
        <message>
            <source>{rate_hz:g} per second</source>
            <translation>{rate_hz:g} par seconde</translation>
        </message>
        <message>
            <source>{reason}; nothing else computes on {device}: use device cpu</source>
            <translation>{reason} ; rien d'autre ne calcule sur {device} : utilisez l'appareil cpu</translation>
        </message>
        <message>
            <source>{reason}; {lack}, so that nothing else computes: install it, or mend that</source>
            <translation>{reason} ; {lack}, si bien que rien d'autre ne calcule : installez-le, ou réparez cela</translation>
        </message>
        <message>
            <source>{request} A second or two is enough (F).</source>
            <translation>{request} Une ou deux secondes suffisent (F).</translation>
        </message>
        <message>
            <source>{request} The best frame of a second or two becomes the reference (F).</source>
            <translation>{request} La meilleure image d'une ou deux secondes devient la référence (F).</translation>
        </message>
        <message>
            <source>{score} of 100</source>
            <translation>{score} sur 100</translation>
        </message>
        <message>
            <source>{score} of 100, as calibrated before</source>
            <translation>{score} sur 100, comme calibré auparavant</translation>
        </message>
        <message>
            <source>{score}: {remarks}</source>
            <translation>{score} : {remarks}</translation>
        </message>
        <message>
            <source>{sentence} {fix}.</source>
            <translation>{sentence} {fix}.</translation>
        </message>
        <message>
            <source>{sentence} {fix}: {command}</source>
            <translation>{sentence} {fix} : {command}</translation>
        </message>
        <message>
            <source>{size_px} px, {millions:.2g} M parameters</source>
            <translation>{size_px} px, {millions:.2g} M de paramètres</translation>
        </message>
        <message>
            <source>{tip} Double-click the name, or press Backspace, for {words}.</source>
            <translation>{tip} Double-cliquez sur le nom, ou appuyez sur Retour arrière, pour {words}.</translation>
        </message>
        <message>
            <source>{tip} Times Expression.</source>
            <translation>{tip} Multiplié par « Expression ».</translation>
        </message>
        <message>
            <source>{tip} Times Motion.</source>
            <translation>{tip} Multiplié par « Mouvement ».</translation>
        </message>
        <message>
            <source>{trouble} A call hears nothing meanwhile; it is tried again.</source>
            <translation>{trouble} Un appel n'entend rien pendant ce temps ; un nouvel essai suit.</translation>
        </message>
        <message>
            <source>{trouble} Recordings go on, and are silent meanwhile.</source>
            <translation>{trouble} Les enregistrements continuent, et sont muets pendant ce temps.</translation>
        </message>
        <message>
            <source>{value:6.1f}</source>
            <translation>{value:6.1f}</translation>
        </message>
        <message>
            <source>{way}: {reason}</source>
            <translation>{way} : {reason}</translation>
        </message>
        <message>
            <source>{what} cannot be used: {error}</source>
            <translation>{what} ne peut pas être utilisée : {error}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a list</source>
            <translation>{what} {key} : {value}, il faut une liste</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected a table of values</source>
            <translation>{what} {key} : {value}, il faut une table de valeurs</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {allowed}</source>
            <translation>{what} {key} : {value}, il faut {allowed}</translation>
        </message>
        <message>
            <source>{what} {key}: got {value}, expected {kind}</source>
            <translation>{what} {key} : {value}, il faut {kind}</translation>
        </message>
        <message>
            <source>{what}.{name}: got {got}, expected a table</source>
            <translation>{what}.{name} : {got}, il faut une table</translation>
        </message>
        <message>
            <source>{what}.{name}: {complaint}</source>
            <translation>{what}.{name} : {complaint}</translation>
        </message>
        <message>
            <source>{what}: got {got}, expected a table of presets</source>
            <translation>{what} : {got}, il faut une table de préréglages</translation>
        </message>
        <message>
            <source>{where} does not hold the network it should: {problems}. Convert the original file again, or use another one</source>
            <translation>{where} ne contient pas le réseau attendu : {problems}. Convertissez à nouveau le fichier d'origine, ou utilisez-en un autre</translation>
        </message>
        <message>
            <source>{where}: {key} holds NaN or infinite values, expected finite weights; if a training run diverged, use an earlier checkpoint of it</source>
            <translation>{where} : {key} contient des NaN ou des valeurs infinies, il faut des poids finis ; si un entraînement a divergé, utilisez un de ses checkpoints antérieurs</translation>
        </message>
        <message>
            <source>{where}: {key} is a {kind} tensor, expected plain floating point</source>
            <translation>{where} : {key} est un tenseur {kind}, il faut des nombres à virgule flottante simples</translation>
        </message>
        <message>
            <source>{width_px} x {height_px}, {fps_hz:.0f} fps</source>
            <translation>{width_px} x {height_px}, {fps_hz:.0f} images/s</translation>
        </message>
        <message>
            <source>{widths} (the encoder's, reversed) when lateral is false</source>
            <translation>{widths} (celles de l'encodeur, inversées) quand lateral est false</translation>
        </message>
        <message>
            <source>{words}.</source>
            <comment>a whole sentence</comment>
            <translation>{words}.</translation>
        </message>
        <message>
            <source>“AI avatar” badge</source>
            <translation>Badge « AI avatar »</translation>
        </message>
    </context>
</TS>
